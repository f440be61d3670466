"""What the journal of every backend must do."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import Backend, Clock
from track_server.store.journal import Addition, Journal, RoomRetention
from track_server.store.records import Store, StoreError

DAY_S = 86_400.0


async def bodies(journal: Journal, room: str | None = None, before: int | None = None, limit: int = 1000) -> list[str]:
    """What the journal shows of the kind `kind`."""
    return [entry.body.decode() for entry in await journal.newest("kind", room, before=before, limit=limit)]


async def filled(journal: Journal, count: int, room: str = "room") -> list[int]:
    """Appends `0`, `1`, ...; returns their sequence numbers."""
    return [await journal.append("kind", room, str(n).encode()) for n in range(count)]


async def test_entries_are_shown_newest_first_as_they_were_appended(store: Store, clock: Clock) -> None:
    first = await store.journal.append("kind", "röom", bytes(range(256)))
    clock.now += 5
    second = await store.journal.append("kind", "röom", b"")
    assert second > first >= 1
    newest, oldest = await store.journal.newest("kind", "röom", before=None, limit=10)
    assert (newest.sequence, newest.room, newest.time, newest.body) == (second, "röom", clock.now, b"")
    assert (oldest.sequence, oldest.time, oldest.body) == (first, clock.now - 5, bytes(range(256)))


async def test_rooms_and_kinds_are_told_apart_and_all_rooms_are_shown_together(store: Store) -> None:
    for room, body in (("a", b"1"), ("b", b"2"), ("", b"3"), ("a", b"4")):
        await store.journal.append("kind", room, body)
    await store.journal.append("other", "a", b"5")
    assert await bodies(store.journal, "a") == ["4", "1"]
    assert await bodies(store.journal, "") == ["3"]
    assert await bodies(store.journal) == ["4", "3", "2", "1"]
    assert await bodies(store.journal, "c") == []


async def test_pages_go_on_before_a_sequence_number_whatever_is_appended_meanwhile(store: Store) -> None:
    await filled(store.journal, 5)
    page = await store.journal.newest("kind", "room", before=None, limit=2)
    await filled(store.journal, 3)
    assert [entry.body for entry in page] == [b"4", b"3"]
    assert await bodies(store.journal, "room", before=page[-1].sequence) == ["2", "1", "0"]
    assert await bodies(store.journal, None, before=page[-1].sequence, limit=2) == ["2", "1"]
    assert await bodies(store.journal, before=0) == []


async def test_a_sequence_number_is_never_given_twice_also_after_a_restart(backend: Backend, clock: Clock) -> None:
    async with backend("again", clock) as store:
        numbers = await filled(store.journal, 3)
        store.journal.retain("kind", age_s=DAY_S, entries=1)
        await store.check()
    clock.now += 2 * DAY_S
    async with backend("again", clock) as store:
        store.journal.retain("kind", age_s=DAY_S, entries=1)
        assert await bodies(store.journal) == []
        assert await store.journal.append("kind", "room", b"") > numbers[-1]


async def test_entries_are_there_after_a_restart(backend: Backend, clock: Clock) -> None:
    async with backend("restart", clock) as store:
        await filled(store.journal, 3)
    async with backend("restart", clock) as store:
        assert await bodies(store.journal) == ["2", "1", "0"]


async def test_without_a_retention_entries_are_kept_for_good(store: Store, clock: Clock) -> None:
    await filled(store.journal, 3)
    clock.now += 10_000 * DAY_S
    assert len(await bodies(store.journal)) == 3


async def test_entries_that_are_too_old_are_not_shown(store: Store, clock: Clock) -> None:
    store.journal.retain("kind", age_s=DAY_S, entries=100)
    await filled(store.journal, 1)
    await store.journal.append("other", "room", b"")
    clock.now += DAY_S / 2
    await store.journal.append("kind", "room", b"young")
    clock.now += DAY_S / 2
    assert await bodies(store.journal) == ["young"]
    assert await bodies(store.journal, "room") == ["young"]
    assert len(await store.journal.newest("other", None, before=None, limit=10)) == 1


async def test_there_are_never_more_entries_than_may_be_kept_and_the_oldest_go(store: Store, clock: Clock) -> None:
    store.journal.retain("kind", age_s=DAY_S, entries=10)
    await asyncio.gather(*(store.journal.append("other", "room", b"") for _ in range(20)))
    await filled(store.journal, 15)
    assert await bodies(store.journal) == [str(n) for n in range(14, 4, -1)]
    await asyncio.gather(*(store.journal.append("kind", f"{n}", b"") for n in range(700)))
    assert len(await bodies(store.journal)) == 10
    assert len(await store.journal.newest("other", None, before=None, limit=100)) == 20


async def test_a_smaller_retention_takes_hold_step_by_step(store: Store) -> None:
    await asyncio.gather(*(store.journal.append("kind", "room", b"") for _ in range(1200)))
    store.journal.retain("kind", age_s=DAY_S, entries=10)
    async with asyncio.timeout(45):
        while len(await bodies(store.journal, limit=2000)) > 10:
            await store.check()


async def test_appends_and_records_that_wait_together_all_arrive(store: Store) -> None:
    appends = [store.journal.append("kind", "room", str(n).encode()) for n in range(300)]
    puts = [store.put("kind", "room", str(n), b"") for n in range(300)]
    numbers = await asyncio.gather(*appends, *puts)
    assert len(set(numbers[:300])) == 300
    assert len(await bodies(store.journal)) == len(await store.list("kind")) == 300


async def test_a_cancelled_waiter_does_not_undo_its_entry(backend: Backend, clock: Clock) -> None:
    async with backend("cancel", clock) as store:
        task = asyncio.ensure_future(store.journal.append("kind", "room", b"kept"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with backend("cancel", clock) as store:
        assert await bodies(store.journal) == ["kept"]


async def test_a_closed_store_takes_and_shows_no_entries(backend: Backend, clock: Clock) -> None:
    async with backend("closed", clock) as store:
        await store.aclose()
        for call in (
            store.journal.append("kind", "room", b""),
            store.journal.newest("kind", None, before=None, limit=1),
            store.journal.append_all("kind", marked(1)),
            store.journal.after("kind", "room", sequence=0, limit=1),
            store.journal.find("kind", "room", mark="mark", number=1),
        ):
            with pytest.raises(StoreError):
                await call


async def test_a_store_that_works_is_not_failing(store: Store) -> None:
    await filled(store.journal, 1)
    assert not store.journal.failing


def marked(count: int, *, room: str = "room", mark: str = "mark", begin: int = 0, size: int = 1) -> list[Addition]:
    """Additions with the numbers from ``begin`` on."""
    return [Addition(room, bytes([number % 256]) * size, mark, number) for number in range(begin, begin + count)]


async def numbers(journal: Journal, room: str = "room", sequence: int = 0, limit: int = 5000) -> list[int]:
    """What is there after a sequence number."""
    return [entry.number for entry in await journal.after("kind", room, sequence=sequence, limit=limit)]


async def test_additions_arrive_in_order_with_their_marks_and_are_found_again(store: Store, clock: Clock) -> None:
    await store.journal.append_all("kind", [])
    await store.journal.append_all("kind", marked(3))
    await store.journal.append_all("kind", [*marked(2, room="other"), *marked(2, mark="next"), *marked(1, begin=9)])
    found = await store.journal.after("kind", "room", sequence=0, limit=10)
    expected = [("mark", 0), ("mark", 1), ("mark", 2), ("next", 0), ("next", 1), ("mark", 9)]
    assert [(entry.mark, entry.number) for entry in found] == expected
    assert [entry.sequence for entry in found] == sorted(entry.sequence for entry in found)
    assert {(entry.room, entry.time) for entry in found} == {("room", clock.now)}
    assert [entry.body for entry in found][:3] == [b"\0", b"\1", b"\2"]
    assert await store.journal.after("kind", "room", sequence=found[0].sequence, limit=2) == found[1:3]
    assert await store.journal.after("kind", "room", sequence=found[-1].sequence, limit=2) == []
    for mark, number, place in (("mark", 2, 2), ("mark", 5, 2), ("mark", 100, 5), ("next", 100, 4)):
        assert await store.journal.find("kind", "room", mark=mark, number=number) == found[place]
    for room, mark in (("room", "none"), ("other", "next"), ("room", "")):
        assert await store.journal.find("kind", room, mark=mark, number=100) is None
    assert (await store.journal.newest("kind", "room", before=None, limit=1))[0] == found[-1]


async def test_many_additions_arrive_together(store: Store) -> None:
    await asyncio.gather(
        *(store.journal.append_all("kind", marked(500, begin=500 * n, room=str(n % 2))) for n in range(4))
    )
    assert await numbers(store.journal, "1") == [*range(500, 1000), *range(1500, 2000)]


async def test_a_room_keeps_its_newest_additions_by_number_and_by_size(store: Store) -> None:
    store.journal.retain("kind", age_s=DAY_S, of_room=RoomRetention(entries=10, bytes=1_000_000))
    await store.journal.append_all("kind", marked(5, room="other"))
    for begin in range(0, 30, 3):
        await store.journal.append_all("kind", marked(3, begin=begin))
    assert await numbers(store.journal) == list(range(20, 30))
    assert await store.journal.find("kind", "room", mark="mark", number=19) is None
    await store.journal.append_all("kind", marked(2, begin=30, size=600_000))
    kept = await numbers(store.journal)
    assert kept == [31]
    await store.journal.append_all("kind", marked(1, begin=32, size=2_000_000))
    assert await numbers(store.journal) == []
    await store.journal.append_all("kind", marked(1, begin=33))
    assert await numbers(store.journal) == [33]
    assert await numbers(store.journal, "other") == list(range(5))


async def test_a_room_that_grew_too_much_at_once_is_trimmed_step_by_step(store: Store) -> None:
    for n in range(3):
        await store.journal.append_all("kind", marked(500, begin=500 * n))
    store.journal.retain("kind", age_s=DAY_S, of_room=RoomRetention(entries=10, bytes=1_000_000))
    await store.journal.append_all("kind", marked(1, begin=1500))
    async with asyncio.timeout(45):
        while len(await numbers(store.journal)) > 10:
            await store.check()
    assert await numbers(store.journal) == list(range(1491, 1501))


async def test_all_rooms_together_keep_so_many_bytes(store: Store) -> None:
    await store.journal.append_all("other", marked(5, size=1000))
    store.journal.retain("kind", age_s=DAY_S, max_bytes=10_000)
    for n in range(20):
        await store.journal.append_all("kind", marked(1, room=str(n % 2), begin=n, size=1000))
    kept = sorted(await numbers(store.journal, "0") + await numbers(store.journal, "1"))
    assert kept[-1] == 19
    assert kept == list(range(kept[0], 20))
    assert 8 <= len(kept) <= 10
    assert len(await store.journal.after("other", "room", sequence=0, limit=10)) == 5


async def test_additions_that_are_too_old_are_neither_shown_nor_found(store: Store, clock: Clock) -> None:
    store.journal.retain("kind", age_s=DAY_S)
    await store.journal.append_all("kind", marked(2))
    clock.now += DAY_S / 2
    await store.journal.append_all("kind", marked(2, begin=2))
    clock.now += DAY_S / 2
    assert await numbers(store.journal) == [2, 3]
    assert await store.journal.find("kind", "room", mark="mark", number=1) is None


async def test_additions_are_there_after_a_restart_and_still_counted(backend: Backend, clock: Clock) -> None:
    async with backend("marked", clock) as store:
        await store.journal.append_all("kind", marked(8))
    async with backend("marked", clock) as store:
        store.journal.retain("kind", age_s=DAY_S, of_room=RoomRetention(entries=10, bytes=1_000_000))
        await store.journal.append_all("kind", marked(8, begin=8))
        assert await numbers(store.journal) == list(range(6, 16))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rooms=st.lists(st.sampled_from("abc"), max_size=20),
    size=st.integers(1, 5),
    room=st.sampled_from(["a", "b", None]),
    begin=st.integers(0, 10**9),
)
async def test_pages_together_are_the_whole_journal(
    store: Store, rooms: list[str], size: int, room: str | None, begin: int
) -> None:
    kind = f"model {begin}"
    mark = await store.journal.append("mark", "", b"")
    expected = [(await store.journal.append(kind, name, b""), name) for name in rooms]
    seen: list[tuple[int, str]] = []
    before = None
    while page := await store.journal.newest(kind, room, before=before, limit=size):
        assert len(page) <= size
        seen += [(entry.sequence, entry.room) for entry in page if entry.sequence > mark]
        before = page[-1].sequence
    assert seen == [entry for entry in reversed(expected) if room in (None, entry[1])]
