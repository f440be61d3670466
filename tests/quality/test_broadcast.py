"""Report streams: one message a tick for all, the newest for the slow, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest
import pytest_asyncio

from tests.quality.rooms import live_room
from tests.quality.samples import ManualClock, settle
from track_server.errors import Draining, Internal
from track_server.quality.broadcast import FIRST_REUSE_S, Broadcast
from track_server.quality.demand import Demand
from track_server.quality.reports import Selection
from track_server.quality.room import Room

EVERYTHING = Selection()


class Press:
    """Makes numbered messages, and fails when told."""

    def __init__(self) -> None:
        self.made = 0
        self.broken = False

    def __call__(self, room: Room, selection: Selection, interval_s: float) -> bytes:
        if self.broken:
            raise RuntimeError("no ink")
        self.made += 1
        return f"{room.name} {interval_s:g} #{self.made}".encode()


class Stage:
    """A broadcast with its clock, its press, and what its demand told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.press = Press()
        self.told: list[tuple[str, float | None]] = []
        self.demand = Demand(lambda room, interval_s: self.told.append((room, interval_s)))
        self.broadcast = Broadcast(self.press, self.demand, self.clock)
        self.room = live_room({})
        self.streams = AsyncExitStack()

    async def open(self, interval_s: float = 5.0, selection: Selection = EVERYTHING) -> AsyncIterator[bytes]:
        stream = self.broadcast.stream(self.room, selection, interval_s)
        return await self.streams.enter_async_context(aclosing(stream))


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    result = Stage()
    async with result.broadcast, result.streams:
        yield result


async def test_the_first_message_comes_at_once_and_then_one_each_interval(stage: Stage) -> None:
    stream = await stage.open(5.0)
    assert await anext(stream) == b"room 5 #1"
    following = asyncio.ensure_future(anext(stream))
    await stage.clock.advance(4.9)
    assert not following.done()
    await stage.clock.advance(0.1)
    assert await following == b"room 5 #2"


async def test_a_message_is_made_once_for_all_streams_of_a_key(stage: Stage) -> None:
    streams = [await stage.open() for _ in range(50)]
    first = [await anext(stream) for stream in streams]
    assert stage.press.made == 1
    for tick in (2, 3, 4):
        following = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await stage.clock.advance(5)
        messages = await asyncio.gather(*following)
        assert stage.press.made == tick
        assert len({id(message) for message in messages}) == 1, "the same bytes, not equal ones"
    assert len({id(message) for message in first}) == 1


async def test_streams_of_another_selection_or_interval_have_their_own_messages(stage: Stage) -> None:
    streams = [
        await stage.open(5.0),
        await stage.open(1.0),
        await stage.open(5.0, Selection("alice")),
        await stage.open(5.0, Selection("", frozenset({"TR_a1"}))),
    ]
    assert [await anext(stream) for stream in streams] == [b"room 5 #1", b"room 1 #2", b"room 5 #3", b"room 5 #4"]
    assert len(stage.broadcast) == 4


async def test_a_late_reader_begins_with_the_present_and_then_shares_the_beat(stage: Stage) -> None:
    early = await stage.open(10.0)
    await anext(early)
    await stage.clock.advance(4)
    late = await stage.open(10.0)
    assert await anext(late) == b"room 10 #2"
    following = [asyncio.ensure_future(anext(stream)) for stream in (early, late)]
    await stage.clock.advance(6)
    assert await asyncio.gather(*following) == [b"room 10 #3"] * 2


async def test_readers_who_begin_together_share_the_first_message(stage: Stage) -> None:
    await anext(await stage.open())
    await stage.clock.advance(FIRST_REUSE_S / 2)
    assert await anext(await stage.open()) == b"room 5 #1"


async def test_a_slow_reader_gets_the_newest_and_not_a_queue(stage: Stage) -> None:
    slow, quick = await stage.open(1.0), await stage.open(1.0)
    await anext(slow)
    await anext(quick)
    for tick in range(2, 12):
        following = asyncio.ensure_future(anext(quick))
        await stage.clock.advance(1)
        assert await following == f"room 1 #{tick}".encode()
    assert await anext(slow) == b"room 1 #11"
    following = asyncio.ensure_future(anext(slow))
    await settle()
    assert not following.done()
    await stage.clock.advance(1)
    assert await following == b"room 1 #12"


async def test_ticks_that_were_missed_are_left_out_and_the_beat_is_kept(stage: Stage) -> None:
    stream = await stage.open(1.0)
    await anext(stream)
    await settle()
    stage.clock._now_s += 3.4  # the loop was held up
    following = asyncio.ensure_future(anext(stream))
    await stage.clock.advance(0)
    assert await following == b"room 1 #2"
    following = asyncio.ensure_future(anext(stream))
    await stage.clock.advance(0.5)
    assert not following.done()
    await stage.clock.advance(0.1)
    assert await following == b"room 1 #3"


async def test_a_ticker_ends_with_its_last_reader(stage: Stage) -> None:
    first, second = await stage.open(), await stage.open()
    await anext(first)
    await anext(second)
    await first.aclose()  # type: ignore[attr-defined]
    await settle()
    assert len(stage.broadcast) == 1
    await second.aclose()  # type: ignore[attr-defined]
    await settle()
    assert len(stage.broadcast) == 0
    await stage.clock.advance(60)
    assert stage.press.made == 1
    assert await anext(await stage.open()) == b"room 5 #2"


async def test_who_comes_as_the_last_reader_leaves_is_served(stage: Stage) -> None:
    leaving = await stage.open()
    await anext(leaving)
    await settle()
    await leaving.aclose()  # type: ignore[attr-defined]
    coming = await stage.open()
    await anext(coming)
    following = asyncio.ensure_future(anext(coming))
    await stage.clock.advance(5)
    assert await following == b"room 5 #3"


async def test_a_reader_that_is_cancelled_takes_nobody_along(stage: Stage) -> None:
    staying, leaving = await stage.open(), await stage.open()
    await anext(staying)
    await anext(leaving)
    gone, following = asyncio.ensure_future(anext(leaving)), asyncio.ensure_future(anext(staying))
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await stage.clock.advance(5)
    assert await following == b"room 5 #2"


async def test_streams_end_when_the_room_closes(stage: Stage) -> None:
    streams = [await stage.open(), await stage.open(1.0)]
    for stream in streams:
        await anext(stream)
    following = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await settle()
    stage.room.close("ROOM_CLOSED")
    assert [type(end) for end in await asyncio.gather(*following, return_exceptions=True)] == [StopAsyncIteration] * 2
    assert len(stage.broadcast) == 0
    assert [message async for message in await stage.open()] == []


async def test_a_message_that_cannot_be_made_ends_the_streams_with_an_error(stage: Stage) -> None:
    streams = [await stage.open(), await stage.open()]
    for stream in streams:
        await anext(stream)
    following = [asyncio.ensure_future(anext(stream)) for stream in streams]
    stage.press.broken = True
    await stage.clock.advance(5)
    for end in await asyncio.gather(*following, return_exceptions=True):
        assert isinstance(end, Internal)
        assert isinstance(end.__cause__, RuntimeError)
    assert len(stage.broadcast) == 0


async def test_closing_ends_all_streams_with_draining(stage: Stage) -> None:
    stream = await stage.open()
    await anext(stream)
    following = asyncio.ensure_future(anext(stream))
    await settle()
    await stage.broadcast.aclose()
    await stage.broadcast.aclose()
    with pytest.raises(Draining):
        await following
    with pytest.raises(Draining):
        await anext(await stage.open())


async def test_statistics_are_wanted_as_often_as_the_shortest_interval_of_the_streams(stage: Stage) -> None:
    slow, quick = await stage.open(4.0), await stage.open(2.0)
    await anext(slow)
    await settle()
    await anext(quick)
    await settle()
    assert stage.demand.interval("room") == 2.0
    await quick.aclose()  # type: ignore[attr-defined]
    await settle()
    await slow.aclose()  # type: ignore[attr-defined]
    await settle()
    assert stage.told == [("room", 4.0), ("room", 2.0), ("room", 4.0), ("room", None)]


async def test_who_wants_no_more_statistics_than_others_already_do_changes_nothing(stage: Stage) -> None:
    for selection in (EVERYTHING, Selection("alice"), Selection("bob")):
        await anext(await stage.open(3.0, selection))
    await settle()
    assert stage.told == [("room", 3.0)]
