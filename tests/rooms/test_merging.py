"""Several rooms in one stream: each in order, by turns, and little held."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from track.v1 import event_pb2
from track_server.errors import RoomNotFound
from track_server.rooms.cursor import Cursor
from track_server.rooms.log import Message
from track_server.rooms.merging import Ended, Merging

DEADLINE_S = 30.0


def message(number: int) -> Message:
    """An event, whose cursor is that number."""
    return Message(Cursor("0" * 12, number), str(number), event=event_pb2.RoomEvent())


async def numbers(count: int, made: Callable[[int], None] = lambda number: None) -> AsyncGenerator[Message]:
    for number in range(count):
        made(number)
        yield message(number)


async def never() -> AsyncGenerator[Message]:
    await asyncio.Event().wait()
    yield message(0)


async def taken(merging: Merging) -> tuple[str, str]:
    async with asyncio.timeout(DEADLINE_S):
        offer = await merging.take()
    assert offer is not None
    room, what = offer
    return room, "end" if isinstance(what, Ended) else what.text


async def test_a_busy_room_leaves_the_others_their_turn_and_each_keeps_its_order() -> None:
    async with Merging() as merging:
        merging.add("busy", numbers(50), begins=False)
        merging.add("calm", numbers(3), begins=False)
        await asyncio.sleep(0)
        found = [await taken(merging) for _ in range(55)]
    assert [text for room, text in found if room == "busy"] == [*map(str, range(50)), "end"]
    assert [text for room, text in found if room == "calm"] == ["0", "1", "2", "end"]
    assert {room for room, _ in found[:2]} == {"busy", "calm"}
    assert found.index(("calm", "end")) < 10


async def test_of_each_room_one_message_waits_for_a_slow_reader() -> None:
    made: list[int] = []
    async with Merging() as merging:
        for name in "abc":
            merging.add(name, numbers(1000, made.append), begins=False)
        for _ in range(100):
            await asyncio.sleep(0)
        assert made == [0, 0, 0]
        await taken(merging)
        for _ in range(100):
            await asyncio.sleep(0)
        assert made == [0, 0, 0, 1]


async def test_few_first_snapshots_are_made_before_they_are_read() -> None:
    made: list[int] = []
    async with Merging() as merging:
        for name in range(50):
            merging.add(str(name), numbers(1, made.append), begins=True)
        for _ in range(100):
            await asyncio.sleep(0)
        assert 0 < len(made) <= 8
        found = [await taken(merging) for _ in range(100)]
    assert len([text for _, text in found if text == "0"]) == 50
    assert len([text for _, text in found if text == "end"]) == 50


async def test_an_error_of_one_room_is_its_end() -> None:
    async def broken() -> AsyncGenerator[Message]:
        yield message(0)
        raise RoomNotFound("gone")

    async with Merging() as merging:
        merging.add("a", broken(), begins=True)
        assert await taken(merging) == ("a", "0")
        async with asyncio.timeout(DEADLINE_S):
            offer = await merging.take()
        assert offer is not None
        assert isinstance(offer[1], Ended)
        assert isinstance(offer[1].error, RoomNotFound)


async def test_an_empty_room_ends_at_once() -> None:
    async with Merging() as merging:
        merging.add("a", numbers(0), begins=False)
        assert await taken(merging) == ("a", "end")


@pytest.mark.parametrize("begins", [False, True])
async def test_where_nothing_comes_the_wait_is_over_in_time_and_the_streams_are_closed(begins: bool) -> None:
    closed = asyncio.Event()

    async def quiet() -> AsyncGenerator[Message]:
        try:
            async for found in never():
                yield found
        finally:
            closed.set()

    async with Merging() as merging:
        merging.add("a", quiet(), begins=begins)
        assert await merging.take(asyncio.get_running_loop().time() + 0.01) is None
        assert await merging.take(0.0) is None
    assert closed.is_set()
    await merging.aclose()
