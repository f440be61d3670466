"""A room whose tracks are told about second by second, and the alerts of it, over a real store."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.quality.core.simulation import Link, Sound, up
from tests.quality.rooms import live_room
from track.v1 import event_pb2
from track.v1.quality_alert_pb2 import QualityAlert
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.reading import Flow, Source
from track_server.quality.live.flows import Context
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.store.sqlite import SqliteStore

BEGIN_S = 1_790_000_000.0
"""What time it is when the monotonic clock is at 0."""

Listener = Callable[[RoomAssessment, Assessed, Moment], None]


class SetClock:
    """Says what the test says."""

    def __init__(self) -> None:
        self.monotonic_s = 0.0

    def now(self) -> Moment:
        return Moment(BEGIN_S + self.monotonic_s, self.monotonic_s)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


class Counting:
    """What metrics would be told."""

    def __init__(self) -> None:
        self.on = 0
        self.over = 0

    def alert_started(self, alert: QualityAlert) -> None:
        self.on += 1

    def alert_ended(self, alert: QualityAlert) -> None:
        self.over += 1


class ToldRoom:
    """A room in which `alice` publishes the sound `TR_a`, and its publisher's numbers come each second."""

    def __init__(self, clock: SetClock, *listeners: Listener, name: str = "room") -> None:
        self.clock = clock
        self.live = live_room({"alice": ["TR_a"], "bob": []}, name)
        self.room = RoomAssessment(self.live, Assessment(), Context())
        self.link = Link(seed=1)
        self.flow = up()
        self.sound = Sound(self.flow, self.link, Source.PUBLISHER_STATS)
        self._listeners = listeners

    def pass_s(self, seconds: int, *, told: bool = True) -> None:
        """So long goes by. ``told``: whether the numbers come."""
        for _ in range(seconds):
            self.clock.monotonic_s += 1.0
            now = self.clock.now()
            reading = self.sound.second(now.monotonic_s, packets=0 if self.link.down else 50)
            if told:
                assert self.room.add(self.flow, [reading], now)
            self.look(now)
            for listener in self._listeners:
                listener(self.room, self.room.last, now)

    def look(self, now: Moment) -> Assessed:
        """A whole tick."""
        for _ in self.room.look(now):
            pass
        return self.room.last


class Announced:
    """The events of rooms."""

    def __init__(self) -> None:
        self.events: list[tuple[str, event_pb2.RoomEvent]] = []

    def __call__(self, room: str, event: event_pb2.RoomEvent) -> None:
        self.events.append((room, event))

    def of(self, change: str) -> Sequence[event_pb2.RoomEvent]:
        return [event for _, event in self.events if event.WhichOneof("change") == change]


def store_at(directory: Path) -> SqliteStore:
    """A store in that folder; the same one where there is one already."""
    return SqliteStore(directory / "store.sqlite3")


__all__ = ["BEGIN_S", "Announced", "Counting", "Flow", "SetClock", "ToldRoom", "store_at"]
