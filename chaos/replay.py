"""A room as a stream of events tells it, from snapshots and events alone, and what is wrong with the stream."""

from collections.abc import Callable, Iterable, Mapping

from google.protobuf.message import Message
from livekit.protocol import models

from track.v1 import event_pb2, track_pb2
from track_server.rooms import convert


class Replay:
    """The model, and the findings: what a stream without gaps and doubles cannot tell.

    ``found`` is told each finding.
    """

    def __init__(self, found: Callable[[str], None]) -> None:
        self._found = found
        self.participants: dict[str, track_pb2.Participant] = {}
        self.tracks: dict[str, track_pb2.Track] = {}
        self.source: track_pb2.FreshnessSource.ValueType = track_pb2.FRESHNESS_SOURCE_UNSPECIFIED
        self.cursor = ""
        self.closed = False
        self._seen: set[str] = set()

    def take(self, message: event_pb2.WatchEventsResponse) -> None:
        """The next message."""
        epoch, _, sequence = self.cursor.rpartition("-")
        self.closed = False
        if message.HasField("snapshot"):
            self._replace(message.snapshot)
        else:
            if message.cursor in self._seen:
                self._found(f"twice: {_brief(message)}")
            # All messages of an epoch have the numbers from 0 on; their seals differ.
            if (message.cursor[:12], message.cursor.rpartition("-")[2]) != (epoch[:12], str(int(sequence or 0) + 1)):
                self._found(f"after {self.cursor} comes {_brief(message)}")
            self._apply(message.event)
        self._seen.add(message.cursor)
        self.cursor = message.cursor

    def _replace(self, snapshot: event_pb2.RoomSnapshot) -> None:
        self.participants = {found.identity: found for found in snapshot.participants}
        self.tracks = {found.sid: found for found in snapshot.tracks}
        self.source = snapshot.freshness.source
        if any(track.participant_identity not in self.participants for track in self.tracks.values()):
            self._found(f"a snapshot has tracks of nobody: {snapshot}")

    def _apply(self, event: event_pb2.RoomEvent) -> None:
        change = event.WhichOneof("change")
        match change:
            case "track_published":
                self._require(change, event.track_published.sid not in self.tracks, event)
                self._require(change, event.track_published.participant_identity in self.participants, event)
                self.tracks[event.track_published.sid] = event.track_published
            case "track_unpublished":
                gone = self.tracks.pop(event.track_unpublished.sid, None)
                self._require(change, gone is not None, event)
            case "track_muted" | "track_unmuted" | "track_updated":
                track: track_pb2.Track = getattr(event, change)
                known = self.tracks.get(track.sid)
                flips = change == "track_updated" or (known is not None and known.muted != track.muted)
                self._require(change, known is not None and flips, event)
                self.tracks[track.sid] = track
            case "participant_joined":
                self._require(change, event.participant_joined.identity not in self.participants, event)
                self.participants[event.participant_joined.identity] = event.participant_joined
            case "participant_left":
                left = self.participants.pop(event.participant_left.identity, None)
                identity = event.participant_left.identity
                alone = all(track.participant_identity != identity for track in self.tracks.values())
                self._require(change, left is not None and alone, event)
            case "participant_updated":
                self._require(change, event.participant_updated.identity in self.participants, event)
                self.participants[event.participant_updated.identity] = event.participant_updated
            case "freshness_changed":
                self.source = event.freshness_changed.source
            case "room_closed":
                self.closed = True
                self.participants, self.tracks = {}, {}
            case _:
                pass

    def _require(self, change: str, possible: bool, event: event_pb2.RoomEvent) -> None:
        if not possible:
            self._found(f"{change} cannot be, as the stream was told: {event}")


def differences(replay: Replay, infos: Iterable[models.ParticipantInfo], room: str) -> list[str]:
    """Where the stream's room is another than that of LiveKit's own list of participants."""
    present = [
        info for info in infos if not info.permission.hidden and info.state != models.ParticipantInfo.DISCONNECTED
    ]
    participants = {info.identity: convert.participant(info) for info in present}
    tracks = {sid: track for info in present for sid, track in convert.tracks(room, info).items()}
    return [
        *_compared(
            "participant", replay.participants, participants, ("sid", "name", "metadata", "attributes", "permission")
        ),
        *_compared("track", replay.tracks, tracks, ("participant_identity", "name", "type", "source", "muted")),
    ]


def _compared(
    what: str, told: Mapping[str, Message], real: Mapping[str, Message], fields: tuple[str, ...]
) -> list[str]:
    found = [f"{what} {key} is not told" for key in sorted(real.keys() - told.keys())]
    found += [f"{what} {key} is not there" for key in sorted(told.keys() - real.keys())]
    for key in sorted(told.keys() & real.keys()):
        found += [
            f"{what} {key} has {name} {getattr(real[key], name)!s}, not {getattr(told[key], name)!s}"
            for name in fields
            if getattr(told[key], name) != getattr(real[key], name)
        ]
    return found


def _brief(message: event_pb2.WatchEventsResponse) -> str:
    return f"{message.cursor} ({message.event.WhichOneof('change') or 'snapshot'})"
