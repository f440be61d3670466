"""Subscriptions that were made through this service are remembered for as long as they may be there, and no longer."""

from pathlib import Path
from typing import Any

from track.v1.access_pb2 import Permission
from track_server.access.principal import Grants, Principal
from track_server.access.question import Question
from track_server.store.sqlite import SqliteStore
from track_server.subscription.granted import GrantedSubscriptions

DAY_S = 24 * 3600.0
ALICE = Principal("alice", Grants(room="a", room_join=True))


class Clock:
    """In the test's hand."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def question(number: int) -> Question:
    """To the track of that number."""
    return Question(Permission.PERMISSION_SUBSCRIBE, "a", "alice", f"TR_{number}")


def tracks(granted: GrantedSubscriptions) -> list[str]:
    """What is remembered."""
    return [standing.question.track_sid for standing in granted()]


async def test_what_nobody_heard_the_end_of_is_forgotten_after_a_day_in_memory_too(tmp_path: Path) -> None:
    clock = Clock()
    # LiveKit is not asked anything here.
    nobody: Any = None
    async with SqliteStore(tmp_path / "store.sqlite3", clock=clock) as store:
        granted = GrantedSubscriptions(store, nobody, clock=clock)
        await granted.keep(ALICE, question(1))
        await granted.keep(ALICE, question(2))
        clock.now += DAY_S / 2
        await granted.keep(ALICE, question(3))
        # Asked for again, it counts from now.
        await granted.keep(ALICE, question(1))
        clock.now += DAY_S / 2
        assert sorted(tracks(granted)) == ["TR_1", "TR_3"]
        again = GrantedSubscriptions(store, nobody, clock=clock)
        await again.load()
        assert sorted(tracks(again)) == ["TR_1", "TR_3"]
        clock.now += DAY_S / 2
        assert tracks(granted) == tracks(again) == []
