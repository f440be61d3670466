"""Who listens to events of quality has it followed, and nobody else."""

import asyncio

from tests.quality.rooms import live_room
from track.v1 import event_pb2
from track_server.quality.alerts.following import KINDS, AlertFollowing
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.room import LiveRoom
from track_server.rooms.selection import Selection

ALL = Selection()
OTHERS = Selection.of([event_pb2.EVENT_KIND_TRACK_PUBLISHED], "")
ALERTS = Selection.of([event_pb2.EVENT_KIND_QUALITY_ALERT_STARTED], "")


class WatchedRooms:
    """The rooms that are watched."""

    def __init__(self, *names: str) -> None:
        self.lives: dict[str, LiveRoom] = {name: live_room({"alice": ["TR_a"]}, name) for name in names}

    def watched(self) -> list[str]:
        return list(self.lives)

    def followed(self, name: str) -> LiveRoom | None:
        live = self.lives.get(name)
        return live if live is not None and not live.closed else None


class Following:
    """Rooms, and who is told of them."""

    def __init__(self, *names: str) -> None:
        self.rooms = WatchedRooms(*names)
        self.assessing = Assessing(self.rooms, linger_s=0.0)
        self.following = AlertFollowing(self.rooms, self.assessing)  # type: ignore[arg-type]  # as much of Rooms as is needed
        self.assessing.closing(self.following.closed)
        self.ended: list[RoomAssessment] = []

    def followed(self) -> set[str]:
        return {name for name in self.rooms.lives if self.assessing.stats_interval(name) is not None}

    async def settled(self) -> set[str]:
        """Once those have gone that nobody follows."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self.followed()


async def test_a_room_is_followed_while_somebody_listens_who_may_be_shown_what_comes_of_it() -> None:
    run = Following("a", "b")
    async with run.assessing:
        run.following.want("other", ["a"], OTHERS)
        assert run.followed() == set()
        run.following.want("one", ["a"], ALERTS)
        run.following.want("two", ["a", "b"], ALL)
        assert run.followed() == {"a", "b"}
        run.following.release("two")
        run.following.release("two")
        run.following.release("other")
        assert await run.settled() == {"a"}
        # In the place of what it wanted before.
        run.following.want("one", ["b"], ALERTS)
        assert await run.settled() == {"b"}
        run.following.want("one", ["b"], OTHERS)
        assert await run.settled() == set()


async def test_who_listens_to_all_rooms_has_those_followed_that_are_watched_until_they_close() -> None:
    run = Following("a")
    async with run.assessing:
        run.following.want("hook", [], ALERTS)
        run.following.want("second", [], ALL)
        assert run.followed() == {"a"}
        run.rooms.lives["b"] = live_room({}, "b")
        run.following.seen(run.rooms.lives["b"])
        assert run.followed() == {"a", "b"}
        run.rooms.lives["a"].close("ROOM_CLOSED")
        # As at the next tick.
        assert run.assessing.of("a") is None
        assert await run.settled() == {"b"}
        run.following.release("hook")
        assert await run.settled() == {"b"}
        run.following.release("second")
        assert await run.settled() == set()
        run.following.seen(run.rooms.lives["b"])
        assert run.followed() == set()


def test_the_events_of_quality_are_those_of_the_contract() -> None:
    numbers = {event_pb2.RoomEvent.DESCRIPTOR.fields_by_name[name].number for name in KINDS}
    assert numbers == {27, 28, 29, 30, 31}
