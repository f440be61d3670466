"""Which tracks of a room were there beside one another. Reads alone."""

from track.v1.track_pb2 import Track
from track_server.metadata.record import Likeness
from track_server.rooms.room import LiveRoom


class Followed:
    """A room that is followed from now on: it is told, in order, which tracks come and go.

    The model does not tell that: it is a step ahead, where several changes came at once.
    """

    def __init__(self, live: LiveRoom) -> None:
        self.live = live
        self._sids = set(live.model.tracks)

    def came(self, track: Track) -> None:
        """It is in the room."""
        self._sids.add(track.sid)

    def went(self, track: Track) -> frozenset[str]:
        """It left the room. SIDs of those that were there beside it and are like it: none of them is its return."""
        self._sids.discard(track.sid)
        alike = Likeness.of(track)
        there = self.live.model.tracks_of(track.participant_identity)
        return frozenset(found.sid for found in there if found.sid in self._sids and Likeness.of(found) == alike)
