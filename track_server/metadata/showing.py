"""Shows metadata: in the room's tracks, in its events and snapshots, and in the attributes of its publisher."""

from typing import Final

from track.v1 import event_pb2
from track.v1.metadata_pb2 import MetadataChangeReason, TrackMetadataChanged
from track_server.metadata.publisher import Publisher
from track_server.metadata.record import Desired
from track_server.metadata.records import Records
from track_server.metadata.view import View
from track_server.rooms.rooms import Rooms

_OVERWRITTEN_BYTES: Final = 4096


class Showing:
    """Whoever changes metadata has it shown here."""

    def __init__(self, rooms: Rooms, records: Records, view: View, publisher: Publisher) -> None:
        self._rooms = rooms
        self._records = records
        self._view = view
        self._publisher = publisher

    def publish(self, known: Desired) -> None:
        """Has the attributes of its publisher looked at again."""
        self._publisher.kick(known.room, known.likeness.participant_identity)

    def changed(self, known: Desired, cause: event_pb2.EventCause | None = None) -> None:
        """What is desired of a track is another: its track shows it, and it is published."""
        live = self._rooms.find(known.room)
        if live is None:
            return
        sids = [track.sid for track in self._view.tracks_of(live, known)]
        publisher = live.model.participants.get(known.likeness.participant_identity)
        if cause is not None and publisher is not None:
            for sid in sids:
                self._rooms.attribute(known.room, "track_updated", sid, cause)
            self._rooms.attribute(known.room, "participant_updated", publisher.sid, cause)
        live.describe(sids)
        self.publish(known)

    def announce(
        self,
        known: Desired,
        reason: "MetadataChangeReason.ValueType",
        cause: event_pb2.EventCause | None = None,
        overwritten_with: str = "",
        track_sid: str = "",
    ) -> None:
        """Tells of a change in the room. ``known``: as it is now, or was last.

        ``track_sid``: of its track, where the room does not show that one yet.
        """
        live = self._rooms.find(known.room)
        metadata = self._view.message(live, known)
        metadata.track_sid = track_sid or metadata.track_sid or known.track_sid
        change = TrackMetadataChanged(
            metadata=metadata,
            reason=reason,
            overwritten_with=overwritten_with.encode()[:_OVERWRITTEN_BYTES].decode(errors="ignore"),
        )
        self._rooms.announce(known.room, event_pb2.RoomEvent(metadata_changed=change, cause=cause))

    def contribute(self, room: str, snapshot: event_pb2.RoomSnapshot) -> None:
        """Fills in all metadata of the room. See Rooms.contribute."""
        live = self._rooms.find(room)
        shown = [self._view.message(live, known) for known in self._records.of_room(room)]
        shown.sort(key=lambda each: (each.participant_identity, each.track_sid, each.publication_id))
        snapshot.track_metadata.extend(shown)
