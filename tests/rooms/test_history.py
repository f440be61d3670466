"""The events of rooms in the store: read again as they were told, and honest about what is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import structlog

from track.v1 import event_pb2
from track_server.rooms.cursor import Cursor, Seal
from track_server.rooms.history import CursorLost, History
from track_server.rooms.log import EventLog, Message
from track_server.store.sqlite import SqliteStore

ROOM = "room"
Opened = Callable[[], AbstractAsyncContextManager[History]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens the history on the same store, again and again."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[History]:
        async with (
            SqliteStore(tmp_path / "track.sqlite3") as store,
            History(store.journal, await Seal.of(store)) as made,
        ):
            yield made

    return opening


def event(text: str) -> event_pb2.RoomEvent:
    return event_pb2.RoomEvent(limit_exceeded=event_pb2.LimitExceeded(limit=text))


def written(history: History, *epochs: int, room: str = ROOM) -> list[Message]:
    """A log that is kept: epochs with so many events each; all that was told."""
    told: list[Message] = []

    def keep(message: Message) -> None:
        told.append(message)
        history.keep(room, message)

    log = EventLog(10_000, room=room, seal=history.seal, keep=keep)
    for number, count in enumerate(epochs):
        log.begin_epoch(event_pb2.RoomSnapshot(room=room, room_sid=f"RM_{number}"))
        for turn in range(count):
            log.append(event(f"{number}-{turn}"))
    return told


async def read(history: History, position: Cursor, room: str = ROOM) -> list[bytes]:
    return [message.encoded() async for message in history.after(room, position)]


def encoded(messages: list[Message]) -> list[bytes]:
    return [message.encoded() for message in messages]


async def test_what_was_told_is_read_again_also_by_the_next_server(opened: Opened) -> None:
    async with opened() as history:
        told = written(history, 250, 0, 3)
        written(history, 5, room="other")
        for place in (0, 100, 251, 252, len(told) - 1):
            assert await read(history, told[place].position) == encoded(told[place + 1 :])
    async with opened() as history:
        assert await read(history, told[0].position) == encoded(told[1:])
        assert history.seal.read(ROOM, told[7].text) == told[7].position


async def test_what_is_kept_when_it_closes_is_written(opened: Opened) -> None:
    async with opened() as history:
        told = written(history, 2000)
    async with opened() as history:
        assert await read(history, told[0].position) == encoded(told[1:])


async def test_a_position_that_was_never_kept_is_lost(opened: Opened) -> None:
    async with opened() as history:
        told = written(history, 3)
        await history.flush()
        for position, room in ((Cursor("0" * 12, 1), ROOM), (told[1].position, "other")):
            with pytest.raises(CursorLost):
                await read(history, position, room)


async def test_after_what_a_crash_took_comes_the_next_epoch_with_its_snapshot(opened: Opened) -> None:
    async with opened() as history:
        told = written(history, 3, 2)
        # Told after the third event, and never stored.
        lost = Cursor(told[0].position.epoch, 9)
        assert await read(history, lost) == encoded(told[4:])


async def test_a_hole_ends_the_reading(opened: Opened) -> None:
    async with opened() as history:
        told: list[Message] = []
        log = EventLog(100, room=ROOM, seal=history.seal, keep=told.append)
        log.begin_epoch(event_pb2.RoomSnapshot(room=ROOM))
        for turn in range(6):
            log.append(event(str(turn)))
        for message in told:
            if message.position.sequence != 4:
                history.keep(ROOM, message)
        assert await read(history, told[1].position) == encoded(told[2:4])


async def test_a_store_that_fails_is_said_once_and_holds_up_nobody(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "track.sqlite3")
    async with store, History(store.journal, await Seal.of(store)) as history:
        await store.aclose()
        with structlog.testing.capture_logs() as logs:
            written(history, 600)
            await history.flush()
            written(history, 2)
            await history.flush()
        assert [line["event"] for line in logs] == ["events_not_kept"]


async def test_a_room_is_buried_once(opened: Opened) -> None:
    async with opened() as history:
        told = written(history, 2)
        await asyncio.gather(*(history.bury(ROOM, unless=lambda: False) for _ in range(3)))
        await history.bury(ROOM, unless=lambda: False)
        rest = [message async for message in history.after(ROOM, told[-1].position)]
        assert [message.last for message in rest] == [False, True]
        assert rest[0].snapshot is not None
        assert rest[0].snapshot.reason == event_pb2.SNAPSHOT_REASON_WATCHER_AWAY
        assert await history.ends(ROOM, rest[1].position)
        assert not await history.ends(ROOM, rest[0].position)


async def test_a_room_that_is_there_again_is_not_buried(opened: Opened) -> None:
    async with opened() as history:
        told = written(history, 2)
        await history.bury(ROOM, unless=lambda: True)
        assert await read(history, told[-1].position) == []
