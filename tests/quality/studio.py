"""A room whose assessment is followed, and what is told of it second by second."""

from collections.abc import Mapping

from tests.quality.core.readings import received
from tests.quality.rooms import WatchedRooms, infos
from tests.quality.samples import ManualClock
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed
from track_server.quality.core.measuring.reading import Flow, Hop, Reading, Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.room import LiveRoom

MIC = Flow("TR_a1", Hop.UPLINK, "host")
CAMERA = Flow("TR_v1", Hop.UPLINK, "guest")
SEEN = Flow("TR_v1", Hop.DOWNLINK, "host")


class Studio:
    """A room of a host with a microphone and a data track, and a guest with a camera."""

    def __init__(self, linger_s: float = 0.0) -> None:
        self.clock = ManualClock()
        self.rooms = WatchedRooms()
        self.assessing = Assessing(self.rooms, clock=self.clock, linger_s=linger_s)
        self.rooms.listen(self.assessing.happened)
        self.room = self.watch()
        self.ended: list[RoomAssessment] = []
        self.ticks: list[tuple[str, int, Mapping[Flow, object]]] = []
        self.assessing.closing(self.ended.append)
        self.assessing.listen(self._ticked)

    def watch(self) -> LiveRoom:
        return self.rooms.watch({"host": ["TR_a1", "TR_d1"], "guest": ["TR_v1"]})

    @property
    def assessment(self) -> RoomAssessment:
        found = self.assessing.of("room")
        assert found is not None
        return found

    @property
    def flows(self) -> set[Flow]:
        return set(self.assessment.assessment.watches)

    def reading(self, made: Reading, **change: float) -> Reading:
        """As taken and come now."""
        now = self.clock.now()
        made.time_s, made.arrival_s = now.time_s, now.monotonic_s
        return made

    async def watch_camera(self, seconds: int, identity: str = "host", source: Source = Source.COMPANION) -> bool:
        """A subscriber's client tells of the camera each second, for so long."""
        flow, taken = Flow("TR_v1", Hop.DOWNLINK, identity), True
        for _ in range(seconds):
            await self.clock.advance(1)
            reading = self.reading(received(self.clock.now().monotonic_s, source=source))
            taken = self.assessing.add("room", flow, [reading]) and taken
        return taken

    def _ticked(self, found: RoomAssessment, assessed: Assessed, moment: Moment) -> None:
        assert found.last is assessed
        assert moment == self.clock.now()
        self.ticks.append((found.name, found.tick, assessed.seen))


def change(room: LiveRoom, sid: str, **fields: bool | str) -> None:
    """LiveKit tells of a change of a track of the host's or the guest's."""
    identity = room.model.tracks[sid].participant_identity
    sids = [track.sid for track in room.model.tracks.values() if track.participant_identity == identity]
    (info,) = infos({identity: sids})
    for track in info.tracks:
        if track.sid == sid:
            for name, value in fields.items():
                setattr(track, name, value)
    room.update([info])
