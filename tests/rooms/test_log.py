"""The event log: bounded, and honest about what it no longer has."""

import asyncio

import pytest

from track.v1 import event_pb2
from track_server.errors import InvalidCursor
from track_server.rooms.log import Cursor, EventLog

EVENT = event_pb2.RoomEvent()


async def test_events_after_a_cursor_come_in_order() -> None:
    log = EventLog(10)
    start = log.cursor
    for _ in range(5):
        log.append(EVENT)
    assert [entry.cursor.sequence for entry in log.after(start)] == [1, 2, 3, 4, 5]
    assert log.after(log.cursor) == []


async def test_a_cursor_that_fell_off_is_not_reached() -> None:
    log = EventLog(3)
    start = log.cursor
    for _ in range(3):
        log.append(EVENT)
    assert log.reaches(start)
    log.append(EVENT)
    assert not log.reaches(start)


async def test_nothing_is_reached_across_an_epoch_or_from_the_future() -> None:
    log = EventLog(3)
    log.append(EVENT)
    before = log.cursor
    assert not log.reaches(Cursor(before.epoch, 2))
    log.begin_epoch()
    assert not log.reaches(before)
    assert log.cursor.sequence == 0


async def test_a_new_event_wakes_who_waits() -> None:
    log = EventLog(3)
    waiting = asyncio.create_task(log.changed())
    await asyncio.sleep(0)
    log.append(EVENT)
    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize(
    "text", ["x", "0123456789ab", "0123456789ab-", "0123456789AB-1", "0123456789ab--1", "-1", "0123456789ab-1\n"]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


def test_a_cursor_survives_its_text() -> None:
    cursor = Cursor("0123456789ab", 42)
    assert Cursor.parse(str(cursor)) == cursor
