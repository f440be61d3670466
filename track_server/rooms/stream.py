"""The event stream of a room: a snapshot, then every event; a gap is told by another snapshot."""

from collections.abc import AsyncIterator, Callable, Iterable

from track.v1 import event_pb2, publication_pb2
from track_server.rooms.log import Cursor
from track_server.rooms.room import LiveRoom

Publications = Callable[[], Iterable[publication_pb2.Publication]]


def snapshot(
    room: LiveRoom, reason: event_pb2.SnapshotReason.ValueType, publications: Publications
) -> event_pb2.WatchEventsResponse:
    """The whole room at this moment, with the cursor that belongs to it."""
    model = room.model
    return event_pb2.WatchEventsResponse(
        cursor=str(room.log.cursor),
        snapshot=event_pb2.RoomSnapshot(
            room=room.name,
            room_sid=model.sid,
            reason=reason,
            participants=[model.participants[identity] for identity in sorted(model.participants)],
            tracks=sorted(model.tracks.values(), key=lambda track: (track.participant_identity, track.sid)),
            publications=publications(),
            qualities=[model.qualities[identity] for identity in sorted(model.qualities)],
            freshness=room.freshness(),
            limits_exceeded=room.exceeded.values(),
        ),
    )


async def follow(room: LiveRoom, resume: Cursor | None, publications: Publications) -> AsyncIterator[bytes]:
    """Serialised WatchEventsResponses from ``resume`` (None: from a snapshot) until the room closes."""
    log = room.log
    if resume is None:
        position = log.cursor
        yield snapshot(room, event_pb2.SNAPSHOT_REASON_INITIAL, publications).SerializeToString()
    else:
        position = resume
        if not log.reaches(position):
            known = position.epoch == log.cursor.epoch and position.sequence < log.cursor.sequence
            reason = event_pb2.SNAPSHOT_REASON_CURSOR_EXPIRED if known else event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN
            position = log.cursor
            yield snapshot(room, reason, publications).SerializeToString()
    while True:
        if position.epoch != log.cursor.epoch:
            position = log.cursor
            yield snapshot(room, event_pb2.SNAPSHOT_REASON_WATCHER_AWAY, publications).SerializeToString()
        elif not log.reaches(position):
            position = log.cursor
            yield snapshot(room, event_pb2.SNAPSHOT_REASON_READER_SLOW, publications).SerializeToString()
        else:
            for entry in log.after(position):
                position = entry.cursor
                yield entry.encoded()
                if position.epoch != log.cursor.epoch or not log.reaches(position):
                    break
        if position == log.cursor:
            if room.closed:
                return
            await log.changed()
