"""Which tracks of a room reports are of. Pure."""

from dataclasses import dataclass

from track.v1.track_pb2 import Track
from track_server.errors import ParticipantNotFound, TrackNotFound
from track_server.quality.live.room import Model
from track_server.rooms.reading import find_track


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tracks of a room: of one participant ("" for all), and of these SIDs (none for all)."""

    participant_identity: str = ""
    track_sids: frozenset[str] = frozenset()

    def holds(self, track: Track) -> bool:
        """Whether ``track`` is one of them."""
        return self.participant_identity in ("", track.participant_identity) and (
            not self.track_sids or track.sid in self.track_sids
        )

    def require(self, model: Model) -> None:
        """Raises ParticipantNotFound or TrackNotFound where something named is not in the room."""
        identity = self.participant_identity
        if identity and identity not in model.participants:
            raise ParticipantNotFound(f"participant {identity!r} is not in the room", field="participant_identity")
        for sid in sorted(self.track_sids):
            track = find_track(model.tracks, sid, "track_sids")
            if identity not in ("", track.participant_identity):
                raise TrackNotFound(f"track {sid!r} is not of participant {identity!r}", field="track_sids")
