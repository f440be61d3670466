"""A mutation that is sent again has no second effect."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.chained_server import API_KEY, API_SECRET, SERVICE, Harness, bearer, failure, serving, until
from tests.interceptors.mutations import Effects, answer, mute
from tests.test_errors import details
from track.v1 import publication_pb2, tracks_pb2
from track_server import errors
from track_server.access.tokens import TokenAuthenticator
from track_server.interceptors.context import current_call
from track_server.interceptors.idempotency import Idempotency, contents_digest, operation_key
from track_server.interceptors.method import ContractError, declared
from track_server.keys import ApiKey, KeyRing
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore


async def test_the_same_request_again_has_one_effect_and_the_same_answer(harness: Harness, effects: Effects) -> None:
    first = await harness.stub.MuteTracks(mute())
    assert await harness.stub.MuteTracks(mute()) == first
    assert len(effects.keys) == 1
    assert await harness.stub.MuteTracks(mute("two")) != first
    assert len(effects.keys) == 2


async def test_without_a_request_id_each_call_takes_effect_under_a_key_of_its_own(
    harness: Harness, effects: Effects
) -> None:
    for _ in range(2):
        await harness.stub.MuteTracks(mute(""))
    assert len(set(effects.keys)) == 2
    assert all(effects.keys)


async def test_a_thousand_at_once_have_one_effect_and_all_get_its_answer(harness: Harness, effects: Effects) -> None:
    effects.release.clear()
    calls = [asyncio.ensure_future(harness.stub.MuteTracks(mute())) for _ in range(1000)]
    await effects.started.wait()
    await asyncio.sleep(0.05)
    effects.release.set()
    async with asyncio.timeout(45):
        answers = await asyncio.gather(*calls)
    assert all(one == answer(1) for one in answers)
    assert len(effects.keys) == 1


async def test_the_first_callers_cancellation_kills_neither_the_mutation_nor_those_who_wait(
    harness: Harness, effects: Effects
) -> None:
    effects.release.clear()
    first = harness.stub.MuteTracks(mute())
    await effects.started.wait()
    second = asyncio.ensure_future(harness.stub.MuteTracks(mute()))
    first.cancel()
    await until(lambda: any(line["code"] == "CANCELLED" for line in harness.lines()))
    effects.release.set()
    assert await second == answer(1)
    assert (len(effects.keys), effects.cancelled) == (1, 0)


async def test_a_mutation_whose_callers_have_all_gone_is_finished_and_its_answer_kept(
    harness: Harness, effects: Effects
) -> None:
    effects.release.clear()
    only = harness.stub.MuteTracks(mute())
    await effects.started.wait()
    only.cancel()
    await until(harness.lines)
    effects.release.set()
    assert await harness.stub.MuteTracks(mute()) == answer(1)
    assert len(effects.keys) == 1


async def test_the_same_id_with_other_contents_is_refused_while_it_runs_and_after(
    harness: Harness, effects: Effects
) -> None:
    effects.release.clear()
    first = asyncio.ensure_future(harness.stub.MuteTracks(mute()))
    await effects.started.wait()
    during = await failure(harness.stub.MuteTracks(mute(sid="TR_b")))
    effects.release.set()
    await first
    after = await failure(harness.stub.MuteTracks(mute(sid="TR_b")))
    for failed in (during, after):
        assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
        found = details(failed)
        assert found["ErrorInfo"].reason == "REQUEST_ID_REUSED"
        assert found["BadRequest"].field_violations[0].field == "request_id"
    assert len(effects.keys) == 1


async def test_an_error_goes_to_all_who_waited_and_a_later_try_runs_again_under_the_same_key(
    harness: Harness, effects: Effects
) -> None:
    effects.release.clear()
    effects.error = errors.LiveKitUnavailable("LiveKit is away.")
    calls = [asyncio.ensure_future(harness.stub.MuteTracks(mute())) for _ in range(5)]
    await effects.started.wait()
    await asyncio.sleep(0.05)
    effects.release.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.UNAVAILABLE
    }
    assert len(effects.keys) == 1
    effects.error = None
    await harness.stub.MuteTracks(mute())
    assert len(effects.keys) == 2
    assert len(set(effects.keys)) == 1


async def test_the_answer_is_kept_for_a_day_also_through_a_restart(tmp_path: Path) -> None:
    effects = Effects()
    now = 1_700_000_000.0
    answers = []
    for moment in (now, now + 24 * 3600 - 1, now + 24 * 3600 + 1):

        def clock(moment: float = moment) -> float:
            return moment

        async with (
            SqliteStore(tmp_path / "kept.sqlite3", clock=clock) as store,
            serving(tmp_path, store=store) as running,
        ):
            running.chain._idempotency._clock = clock
            running.on("MuteTracks", effects)
            answers.append(await running.stub.MuteTracks(mute()))
    assert answers == [answer(1), answer(1), answer(2)]


async def test_callers_rooms_and_methods_do_not_meet(tmp_path: Path) -> None:
    async with serving(tmp_path, authenticator=TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))) as running:
        effects = Effects()
        running.on("MuteTracks", effects)

        async def unmute(request: Any, context: Any) -> Any:
            effects.keys.append(current_call().operation_key)
            return tracks_pb2.UnmuteTracksResponse()

        running.on("UnmuteTracks", unmute)
        for identity in ("alice", "bob"):
            for room in ("room", "other"):
                metadata = bearer(identity, roomAdmin=True, room=room)
                await running.stub.MuteTracks(mute(room=room), metadata=metadata)
        request = tracks_pb2.UnmuteTracksRequest(
            room="room", tracks=[tracks_pb2.TrackRef(track_sid="TR_a")], request_id="one"
        )
        await running.stub.UnmuteTracks(request, metadata=bearer("alice", roomAdmin=True, room="room"))
    assert len(set(effects.keys)) == 5


async def test_who_may_not_do_it_does_not_get_the_answer_of_who_may(tmp_path: Path) -> None:
    async with serving(tmp_path, authenticator=TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))) as running:
        running.on("MuteTracks", Effects())
        await running.stub.MuteTracks(mute(), metadata=bearer("alice", roomAdmin=True, room="room"))
        failed = await failure(running.stub.MuteTracks(mute(), metadata=bearer("alice", roomAdmin=True, room="other")))
    assert failed.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_lesser_token_of_the_same_identity_does_not_get_the_answer_of_a_greater_one(tmp_path: Path) -> None:
    async with serving(tmp_path, authenticator=TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))) as running:
        effects = Effects()
        running.on("MuteTracks", effects)
        greater = {"roomJoin": True, "roomAdmin": True, "room": "room"}
        lesser: dict[str, object] = {"roomJoin": True, "room": "room"}
        answers = [
            await running.stub.MuteTracks(mute(), metadata=bearer("alice", **grants))
            for grants in (greater, lesser, lesser | {"canPublishSources": ["camera"]}, greater)
        ]
    assert answers == [answer(1), answer(2), answer(3), answer(1)]
    assert len(set(effects.keys)) == 3


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same_and_the_log_says_so(
    harness: Harness, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*arguments: Any, **named: Any) -> int:
        raise StoreError("the store failed: disk full") from sqlite3.OperationalError("disk full")

    monkeypatch.setattr(harness.store, "put", full)
    with structlog.testing.capture_logs() as logged:
        assert await harness.stub.MuteTracks(mute()) == answer(1)
    assert [entry["event"] for entry in logged] == ["answer_not_kept"]


async def test_closing_ends_mutations_that_do_not_end_and_tells_those_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("track_server.interceptors.idempotency._CLOSE_S", 0.1)
    async with serving(tmp_path) as running:
        effects = Effects()
        running.on("MuteTracks", effects)
        effects.release.clear()
        call = asyncio.ensure_future(running.stub.MuteTracks(mute()))
        await effects.started.wait()
        await running.chain.aclose()
        failed = await failure(call)
        assert failed.code() is grpc.StatusCode.UNAVAILABLE
        assert details(failed)["ErrorInfo"].reason == "DRAINING"
        assert effects.cancelled == 1
        await running.chain.aclose()


async def test_bytes_that_a_mutation_answers_are_kept_too(harness: Harness) -> None:
    async def prepared(request: Any, context: Any) -> bytes:
        return answer(7).SerializeToString()

    harness.on("MuteTracks", prepared)
    assert await harness.stub.MuteTracks(mute()) == await harness.stub.MuteTracks(mute()) == answer(7)


@given(
    first=st.tuples(st.binary(max_size=5), st.text(max_size=5), st.text(max_size=5)),
    second=st.tuples(st.binary(max_size=5), st.text(max_size=5), st.text(max_size=5)),
)
def test_the_operation_key_tells_every_part_apart(
    first: tuple[bytes, str, str], second: tuple[bytes, str, str]
) -> None:
    assert (operation_key(*first) == operation_key(*second)) == (first == second)


def test_contents_are_the_request_without_its_id_whatever_the_order_of_its_maps() -> None:
    def publish(request_id: str, *names: str) -> publication_pb2.PublishTrackRequest:
        request = publication_pb2.PublishTrackRequest(room="room", request_id=request_id)
        request.spec.metadata.update({name: name for name in names})
        return request

    assert contents_digest(publish("1", "a", "b", "c")) == contents_digest(publish("2", "c", "b", "a"))
    assert contents_digest(publish("1", "a")) != contents_digest(publish("1", "b"))


def test_without_a_store_only_mutations_cannot_be_served() -> None:
    async def inner(request: Any, call: Any) -> None: ...

    methods = [declared(rpc, bytes, bytes) for rpc in SERVICE.methods]
    for method in methods:
        if method.mutation:
            with pytest.raises(ContractError, match=method.name):
                Idempotency(None).wrap(method, inner)
        else:
            assert Idempotency(None).wrap(method, inner) is inner
