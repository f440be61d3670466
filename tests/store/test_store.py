"""What every backend of the store must do."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import Backend, Clock
from track_server.store.records import Record, RevisionConflict, Store, StoreError


async def test_a_record_is_read_as_it_was_put(store: Store, clock: Clock) -> None:
    body = bytes(range(256))
    revision = await store.put("kind", "röom", "key", body, expire_time=clock.now + 5)
    assert await store.get("kind", "röom", "key") == Record("kind", "röom", "key", revision, body, clock.now + 5)


async def test_kind_room_and_key_all_tell_records_apart(store: Store) -> None:
    await store.put("kind", "room", "key", b"1")
    assert await store.get("other", "room", "key") is None
    assert await store.get("kind", "other", "key") is None
    assert await store.get("kind", "room", "other") is None


async def test_records_are_listed_in_the_order_of_their_creation_though_they_change_later(store: Store) -> None:
    for key in ("c", "a", "b"):
        await store.put("kind", "room", key, b"")
    await store.put("kind", "elsewhere", "d", b"")
    await store.put("other", "room", "e", b"")
    await store.put("kind", "room", "c", b"changed")
    assert [(record.key, record.body) for record in await store.list("kind", "room")] == [
        ("c", b"changed"),
        ("a", b""),
        ("b", b""),
    ]
    assert [record.key for record in await store.list("kind")] == ["c", "a", "b", "d"]


async def test_a_write_at_the_expected_revision_succeeds_and_at_another_changes_nothing(store: Store) -> None:
    first = await store.put("kind", "room", "key", b"1", expected_revision=0)
    second = await store.put("kind", "room", "key", b"2", expected_revision=first)
    assert second > first >= 1
    for stale in (0, first, second + 1):
        with pytest.raises(RevisionConflict) as conflict:
            await store.put("kind", "room", "key", b"3", expected_revision=stale)
        assert conflict.value.current == second
    record = await store.get("kind", "room", "key")
    assert record is not None
    assert (record.body, record.revision) == (b"2", second)


async def test_a_write_that_expects_a_revision_of_nothing_conflicts(store: Store) -> None:
    with pytest.raises(RevisionConflict) as conflict:
        await store.put("kind", "room", "key", b"", expected_revision=7)
    assert conflict.value.current == 0
    assert await store.get("kind", "room", "key") is None


async def test_of_a_hundred_writers_at_once_one_creates_the_record(store: Store) -> None:
    writes = [store.put("kind", "room", "key", b"%d" % n, expected_revision=0) for n in range(100)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, int)]
    assert len(winners) == 1
    record = await store.get("kind", "room", "key")
    assert record is not None
    assert record.body == b"%d" % winners[0]
    assert all(isinstance(outcome, RevisionConflict) for n, outcome in enumerate(outcomes) if n not in winners)


async def test_a_failing_write_does_not_fail_those_that_came_with_it(store: Store) -> None:
    await store.put("kind", "room", "taken", b"")
    before, conflict, unfit, after = await asyncio.gather(
        store.put("kind", "room", "before", b""),
        store.put("kind", "room", "taken", b"", expected_revision=0),
        store.put("kind", "room", "unfit", None),  # type: ignore[arg-type]  # what the medium refuses
        store.put("kind", "room", "after", b""),
        return_exceptions=True,
    )
    assert isinstance(before, int)
    assert isinstance(conflict, RevisionConflict)
    assert isinstance(unfit, Exception)
    assert isinstance(after, int)
    assert [record.key for record in await store.list("kind")] == ["taken", "before", "after"]


async def test_delete_tells_whether_the_record_existed(store: Store) -> None:
    await store.put("kind", "room", "key", b"")
    assert await store.delete("kind", "room", "key") is True
    assert await store.delete("kind", "room", "key") is False
    assert await store.get("kind", "room", "key") is None


async def test_a_record_made_again_repeats_no_revision_also_after_a_restart(backend: Backend, clock: Clock) -> None:
    async with backend("again", clock) as store:
        first = await store.put("kind", "room", "key", b"")
        await store.delete("kind", "room", "key")
    async with backend("again", clock) as store:
        second = await store.put("kind", "room", "key", b"", expected_revision=0)
        assert second > first
        with pytest.raises(RevisionConflict):
            await store.put("kind", "room", "key", b"", expected_revision=first)


async def test_an_expired_record_does_not_exist(store: Store, clock: Clock) -> None:
    await store.put("kind", "room", "short", b"", expire_time=clock.now + 1)
    await store.put("kind", "room", "long", b"", expire_time=clock.now + 10)
    clock.now += 1
    assert await store.get("kind", "room", "short") is None
    assert [record.key for record in await store.list("kind")] == ["long"]
    assert await store.delete("kind", "room", "short") is False
    await store.put("kind", "room", "short", b"new", expected_revision=0)
    assert [record.key for record in await store.list("kind")] == ["long", "short"]


async def test_a_write_sets_and_lifts_the_expiry(store: Store, clock: Clock) -> None:
    await store.put("kind", "room", "key", b"", expire_time=clock.now + 1)
    await store.put("kind", "room", "key", b"")
    clock.now += 2
    assert await store.get("kind", "room", "key") is not None


async def test_what_was_acknowledged_is_there_when_the_store_is_opened_again(backend: Backend, clock: Clock) -> None:
    async with backend("kept", clock) as store:
        revision = await store.put("kind", "room", "key", b"body")
    async with backend("kept", clock) as store:
        assert await store.get("kind", "room", "key") == Record("kind", "room", "key", revision, b"body", None)


async def test_a_cancelled_waiter_does_not_undo_its_write(backend: Backend, clock: Clock) -> None:
    async with backend("cancel", clock) as store:
        task = asyncio.ensure_future(store.put("kind", "room", "key", b""))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with backend("cancel", clock) as store:
        assert await store.get("kind", "room", "key") is not None


async def test_closing_finishes_what_was_asked_for(backend: Backend, clock: Clock) -> None:
    async with backend("closing", clock) as store:
        writes = [asyncio.ensure_future(store.put("kind", "room", f"{n}", b"")) for n in range(1200)]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)
    async with backend("closing", clock) as store:
        assert [record.key for record in await store.list("kind")] == [f"{n}" for n in range(1200)]


async def test_a_closed_store_refuses_and_can_be_closed_again(backend: Backend, clock: Clock) -> None:
    async with backend("closed", clock) as store:
        await store.aclose()
        for call in (store.get("k", "r", "k"), store.list("k"), store.put("k", "r", "k", b""), store.check()):
            with pytest.raises(StoreError):
                await call


async def test_check_passes_where_the_store_can_be_written(store: Store) -> None:
    await store.check()


_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.sampled_from([None, "right", "wrong"]), st.booleans()),
        st.tuples(st.just("delete"), st.sampled_from("abc")),
        st.tuples(st.just("wait"), st.floats(0.1, 2)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=_ACTIONS)
async def test_any_sequence_of_changes_leaves_what_a_dict_would_hold(
    store: Store, clock: Clock, actions: list[tuple[object, ...]]
) -> None:
    for record in await store.list("model"):
        await store.delete("model", record.room, record.key)
    model: dict[str, tuple[int, float | None]] = {}
    for name, *arguments in actions:
        model = {key: value for key, value in model.items() if value[1] is None or value[1] > clock.now}
        if name == "wait":
            clock.now += float(str(arguments[0]))
        elif name == "delete":
            key = str(arguments[0])
            assert await store.delete("model", "room", key) is (model.pop(key, None) is not None)
        else:
            key, expectation, expires = str(arguments[0]), arguments[1], arguments[2]
            current = model[key][0] if key in model else 0
            expected = {None: None, "right": current, "wrong": current + 1}[expectation]  # type: ignore[index]
            expire_time = clock.now + 1 if expires else None
            try:
                revision = await store.put(
                    "model", "room", key, b"", expected_revision=expected, expire_time=expire_time
                )
            except RevisionConflict as conflict:
                outcome = ("conflict", conflict.current)
            else:
                outcome = ("done", current)
                model[key] = (revision, expire_time)
            assert outcome == ("conflict" if expectation == "wrong" else "done", current)
        live = {key: value for key, value in model.items() if value[1] is None or value[1] > clock.now}
        assert [(record.key, record.revision) for record in await store.list("model")] == [
            (key, revision) for key, (revision, _) in live.items()
        ]
