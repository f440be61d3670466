"""What is asked of LiveKit for one subscriber is gathered: one call a window, and the newest word counts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from track.v1 import event_pb2
from track_server.deadline import Deadline
from track_server.errors import LiveKitUnavailable, TargetPermission, TrackError
from track_server.rooms.causes import rule_cause
from track_server.subscription.controller.asking import WINDOW_S, Asking

Call = tuple[str, str, dict[str, str], bool, float]


class Subscriptions:
    """Takes the place of the one way to LiveKit's call, and writes the calls down."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failures: list[TrackError] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def update_each(
        self, room: str, identity: str, causes: Mapping[str, event_pb2.EventCause], *, subscribe: bool
    ) -> None:
        names = {sid: cause.rule for sid, cause in causes.items()}
        self.calls.append((room, identity, names, subscribe, asyncio.get_running_loop().time()))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)

    def made(self) -> list[tuple[list[str], bool]]:
        return [(sorted(names), subscribe) for _, _, names, subscribe, _ in self.calls]


@pytest.fixture
def way() -> Subscriptions:
    return Subscriptions()


@pytest_asyncio.fixture
async def asking(way: Subscriptions) -> AsyncIterator[Asking]:
    given: Any = way
    async with Asking(given, lambda _, __: None) as made:
        yield made


async def ask(
    asking: Asking, *sids: str, subscribe: bool = True, who: str = "ann", rule: str = "one", within_s: float = 30.0
) -> int:
    deadline = Deadline.after(within_s)
    return await asking.ask("room", who, sids, subscribe=subscribe, cause=rule_cause(rule), deadline=deadline)


async def test_what_comes_together_is_one_call_with_each_track_once_and_its_own_cause(
    asking: Asking, way: Subscriptions
) -> None:
    told: list[tuple[str, list[str], bool]] = []
    asking.listen(lambda _, who, sids, subscribe: told.append((who, sorted(sids), subscribe)))
    first, second = await asyncio.gather(ask(asking, "TR_1", "TR_2"), ask(asking, "TR_2", "TR_3", rule="two"))
    assert first == second == 1
    ((room, who, names, subscribe, _),) = way.calls
    assert (room, who, subscribe) == ("room", "ann", True)
    assert names == {"TR_1": "one", "TR_2": "two", "TR_3": "two"}
    assert told == [("ann", ["TR_1", "TR_2", "TR_3"], True)]


async def test_both_flags_are_two_calls_in_two_windows_the_unsubscribing_first(
    asking: Asking, way: Subscriptions
) -> None:
    await asyncio.gather(ask(asking, "TR_1"), ask(asking, "TR_2", subscribe=False))
    assert way.made() == [(["TR_2"], False), (["TR_1"], True)]
    assert way.calls[1][-1] - way.calls[0][-1] >= 0.9 * WINDOW_S


async def test_no_call_is_made_before_what_comes_within_fifty_milliseconds_is_gathered(
    asking: Asking, way: Subscriptions
) -> None:
    began = asyncio.get_running_loop().time()
    await asyncio.gather(ask(asking, "TR_1"), ask(asking, "TR_2", subscribe=False))
    first, second = (call[-1] for call in way.calls)
    # A loop's timer may come a little early, by the clock's grain.
    assert first - began >= 0.045
    assert second - first >= 0.045


async def test_subscribers_do_not_wait_for_one_another(asking: Asking, way: Subscriptions) -> None:
    await asyncio.gather(*(ask(asking, "TR_1", who=f"guest {number}") for number in range(50)))
    assert len(way.calls) == 50


async def test_the_newest_word_about_a_track_counts_and_answers_the_older_one_too(
    asking: Asking, way: Subscriptions
) -> None:
    await asyncio.gather(ask(asking, "TR_1"), ask(asking, "TR_1", subscribe=False))
    assert way.made() == [(["TR_1"], False)]


async def test_a_word_that_comes_during_the_call_is_asked_for_after_it(asking: Asking, way: Subscriptions) -> None:
    way.gate.clear()
    first = asyncio.ensure_future(ask(asking, "TR_1"))
    async with asyncio.timeout(20):
        while not way.calls:
            await asyncio.sleep(0.01)
    second = asyncio.ensure_future(ask(asking, "TR_1", subscribe=False))
    await asyncio.sleep(0)
    way.gate.set()
    assert await first == await second == 1
    assert way.made() == [(["TR_1"], True), (["TR_1"], False)]


async def test_who_asks_for_the_same_during_the_call_is_answered_with_it(asking: Asking, way: Subscriptions) -> None:
    way.gate.clear()
    first = asyncio.ensure_future(ask(asking, "TR_1", rule=""))
    async with asyncio.timeout(20):
        while not way.calls:
            await asyncio.sleep(0.01)
    second = asyncio.ensure_future(ask(asking, "TR_1", rule="by rule"))
    third = asyncio.ensure_future(ask(asking, "TR_1", "TR_2", rule="by rule"))
    await asyncio.sleep(0)
    way.gate.set()
    assert await first == await second == await third == 1
    assert way.made() == [(["TR_1"], True), (["TR_2"], True)]


async def test_while_livekit_is_away_it_is_asked_again_until_the_deadline(asking: Asking, way: Subscriptions) -> None:
    way.failures = [LiveKitUnavailable("away"), LiveKitUnavailable("away")]
    assert await ask(asking, "TR_1") == 3
    way.failures = [LiveKitUnavailable("away") for _ in range(100)]
    with pytest.raises(LiveKitUnavailable):
        await ask(asking, "TR_1", within_s=0.0)
    assert len(way.calls) > 3


async def test_what_livekit_refuses_is_said_at_once(asking: Asking, way: Subscriptions) -> None:
    way.failures = [TargetPermission("no")]
    with pytest.raises(TargetPermission):
        await ask(asking, "TR_1")
    assert len(way.calls) == 1
    # The next one is not held up by it.
    assert await ask(asking, "TR_1") == 1


async def test_nothing_is_asked_for_nothing_and_for_whom_nobody_waits(asking: Asking, way: Subscriptions) -> None:
    assert await ask(asking) == 0
    leaving = asyncio.ensure_future(ask(asking, "TR_1"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await ask(asking, "TR_2") == 1
    assert way.made() == [(["TR_2"], True)]
