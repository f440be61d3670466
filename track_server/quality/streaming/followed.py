"""What the stream asks of the assessment of a room that it follows."""

from collections.abc import Callable, Sequence

from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_pb2 import TrackQualityReport
from track.v1.track_pb2 import Track
from track_server.quality.clock import Moment
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.room import Room
from track_server.quality.live.roomassessment import RoomAssessment, unfollowed
from track_server.quality.streaming.streams import Follow
from track_server.quality.streaming.ticker import Told

EndedOf = Callable[[str], Sequence[QualityAlert]]
"""The alerts of a room that ended in the last 5 minutes."""


def following(assessing: Assessing, ended_of: EndedOf) -> Follow:
    """Has the assessment of rooms followed while they are streamed."""

    def follow(live: Room) -> tuple[Told, Callable[[], None]]:
        owner = object()
        assessing.follow(owner, live.name)
        return FollowedRoom(live, assessing, ended_of), lambda: assessing.release(owner, live.name)

    return follow


class FollowedRoom:
    """A live room whose assessment somebody follows: see Told."""

    def __init__(self, live: Room, assessing: Assessing, ended_of: EndedOf) -> None:
        self.live = live
        self._assessing = assessing
        self._ended_of = ended_of
        # Of a room that is not assessed (it has just closed), what the room itself tells.
        self._found = unfollowed(live, assessing.context)

    @property
    def tick(self) -> int:
        """See Told."""
        return self._assessment().tick

    def report(self, track: Track, windows: Sequence[float], moment: Moment, *, span_s: float) -> TrackQualityReport:
        """See Told."""
        return self._assessment().report(track, windows, moment, span_s=span_s)

    def ended(self) -> Sequence[QualityAlert]:
        """See Told."""
        return self._ended_of(self.live.name)

    def _assessment(self) -> RoomAssessment:
        found = self._assessing.of(self.live.name)
        if found is not None and found.live is self.live:
            self._found = found
        return self._found
