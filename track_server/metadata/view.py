"""What a room shows of metadata, and what it is to show. Reads alone."""

from track.v1.metadata_pb2 import TrackMetadata
from track.v1.track_pb2 import Track
from track_server.metadata.attributes import written
from track_server.metadata.content import text_of
from track_server.metadata.record import Desired
from track_server.metadata.records import Records
from track_server.rooms.room import LiveRoom


class View:
    """Compares the records with rooms. ``live`` is None where the room is not watched now."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def wanted(self, live: LiveRoom, identity: str) -> dict[str, str]:
        """What the attributes of the participant are to have: text by SID."""
        wanted = {}
        for track in live.model.tracks_of(identity):
            known = self._records.of_track(track)
            if known is not None and known.metadata is not None:
                wanted[track.sid] = text_of(known.metadata)
        return wanted

    def tracks_of(self, live: LiveRoom, known: Desired) -> list[Track]:
        """Its tracks in the room: one, but of an ingress, and while one replaces another."""
        tracks = live.model.tracks_of(known.likeness.participant_identity)
        if known.publication_id:
            return [track for track in tracks if track.publication_id == known.publication_id]
        return [track for track in tracks if track.sid == known.track_sid]

    def sid_of(self, live: LiveRoom | None, known: Desired) -> str:
        """As which its track is in the room now; empty: it is not."""
        tracks = self.tracks_of(live, known) if live is not None else []
        if known.publication_id:
            publication = self._records.publication(known.room, known.publication_id)
            if publication is not None and publication.track_sid in {track.sid for track in tracks}:
                return publication.track_sid
        return tracks[-1].sid if tracks else ""

    def published(self, live: LiveRoom | None, known: Desired) -> bool:
        """Whether the attributes of the publisher have it, for all of its tracks; or have nothing of it, where it was
        removed."""
        if live is None:
            return False
        participant = live.model.participants.get(known.likeness.participant_identity)
        tracks = self.tracks_of(live, known)
        if participant is None:
            return not known.exists
        if not tracks and known.exists:
            return False
        text = text_of(known.metadata) if known.metadata is not None else ""
        sids = {track.sid for track in tracks} or {known.track_sid}
        return all(written(participant.attributes, sid) == text for sid in sids)

    def expects(self, live: LiveRoom, known: Desired) -> bool:
        """Whether the room is about to show it: it has the track, and nothing newer is desired of it."""
        now = [self._records.of_track(track) for track in self.tracks_of(live, known)]
        if known.exists:
            return any(found is not None and found.etag == known.etag for found in now)
        return all(found is None or not found.exists for found in now)

    def message(self, live: LiveRoom | None, known: Desired) -> TrackMetadata:
        """As the contract shows it now."""
        return known.message(self.sid_of(live, known), published=self.published(live, known))
