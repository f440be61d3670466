"""The event log in memory, and cursors: bounded, and honest about what is no longer there."""

import asyncio

import pytest

from track.v1 import event_pb2
from track_server.errors import InvalidCursor
from track_server.rooms.cursor import Cursor, Seal
from track_server.rooms.log import MAX_BYTES, EventLog, Message

EVENT = event_pb2.RoomEvent()
SNAPSHOT = event_pb2.RoomSnapshot()


def begun(limit: int, max_bytes: int = MAX_BYTES) -> EventLog:
    log = EventLog(limit, room="room", max_bytes=max_bytes)
    log.begin_epoch(SNAPSHOT)
    return log


def after(log: EventLog, cursor: Cursor) -> list[Message] | None:
    """All that is in the log after the cursor; None where it does not reach back."""
    place = log.place_after(cursor)
    if place is None:
        return None
    return [message for n in range(place, log.end) if (message := log.at(n)) is not None]


def sequences(log: EventLog, cursor: Cursor) -> list[int] | None:
    found = after(log, cursor)
    return None if found is None else [message.position.sequence for message in found]


def test_messages_after_a_cursor_come_in_order() -> None:
    log = begun(10)
    start = log.cursor
    for _ in range(5):
        log.append(EVENT)
    assert sequences(log, start) == [1, 2, 3, 4, 5]
    assert sequences(log, log.cursor) == []


def test_a_cursor_that_fell_off_is_not_reached() -> None:
    log = begun(3)
    start = log.cursor
    for _ in range(3):
        log.append(EVENT)
    assert sequences(log, start) == [1, 2, 3]
    log.append(EVENT)
    assert sequences(log, start) is None


def test_a_new_epoch_comes_after_the_old_one_with_its_snapshot() -> None:
    log = begun(10)
    start = log.cursor
    log.append(EVENT)
    log.begin_epoch(SNAPSHOT)
    log.append(EVENT)
    found = after(log, start)
    assert found is not None
    assert [message.position.sequence for message in found] == [1, 0, 1]
    assert [message.snapshot is not None for message in found] == [False, True, False]
    assert log.cursor.epoch != start.epoch


def test_nothing_is_reached_from_the_future_or_from_elsewhere() -> None:
    log = begun(3)
    log.append(EVENT)
    assert sequences(log, Cursor(log.cursor.epoch, 2)) is None
    assert sequences(log, Cursor("0" * 12, 0)) is None


def test_before_it_was_seen_a_room_has_no_events() -> None:
    log = EventLog(3)
    log.append(EVENT)
    assert log.end == 0


def test_the_log_is_bounded_by_size_too() -> None:
    log = begun(1000, max_bytes=10_000)
    large = event_pb2.RoomEvent(room_closed=event_pb2.RoomClosed(reason="x" * 3000))
    for _ in range(5):
        log.append(large)
    assert log.end - log.first == 3
    log.append(event_pb2.RoomEvent(room_closed=event_pb2.RoomClosed(reason="x" * 20_000)))
    assert log.end - log.first == 0
    before = log.cursor
    log.append(EVENT)
    assert sequences(log, before) == [before.sequence + 1]


def test_every_message_is_handed_on_to_be_kept() -> None:
    kept: list[Message] = []
    log = EventLog(1, room="room", keep=kept.append)
    log.begin_epoch(SNAPSHOT)
    log.append(EVENT)
    assert [message.position.sequence for message in kept] == [0, 1]
    again = Message(kept[0].position, kept[0].text, encoded=kept[0].encoded())
    assert (again.snapshot, again.event) == (SNAPSHOT, None)


async def test_a_new_event_wakes_who_waits() -> None:
    log = begun(3)
    waiting = asyncio.create_task(log.changed())
    await asyncio.sleep(0)
    log.append(EVENT)
    await asyncio.wait_for(waiting, 20)


@pytest.mark.parametrize(
    "text", ["x", "0123456789ab", "0123456789ab-", "0123456789AB-1", "0123456789ab--1", "-1", "0123456789ab-1\n"]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Seal().read("room", text)


def test_a_cursor_survives_its_text() -> None:
    seal, cursor = Seal(), Cursor("0123456789ab", 42)
    assert seal.read("room", seal.text("room", cursor)) == cursor


def test_a_cursor_of_another_room_place_or_secret_is_not_known() -> None:
    seal, cursor = Seal(), Cursor("0123456789ab", 42)
    text = seal.text("room", cursor)
    assert seal.read("other", text) is None
    assert seal.read("room", text.replace("-42", "-43")) is None
    assert seal.read("room", text.replace("-42", "-042")) is None
    assert seal.read("room", "0123456789ab-42") is None
    assert Seal().read("room", text) is None
