"""Every mutation is a row of the record before it is answered, once."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf import json_format

from tests.chained_server import API_KEY, API_SECRET, Harness, bearer, failure, serving, until
from tests.interceptors.mutations import Effects, mute
from tests.interceptors.recorded import ADMIN, metric, row, rows, some
from tests.test_errors import details
from track.v1 import access_pb2, error_pb2, event_pb2, token_pb2, track_service_pb2, tracks_pb2
from track_server import errors
from track_server.access.tokens import TokenAuthenticator
from track_server.interceptors.context import current_call
from track_server.interceptors.method import ContractError, declared
from track_server.keys import ApiKey, KeyRing
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore


async def test_a_mutation_is_a_row_with_who_what_and_what_became_of_it(guarded: Harness) -> None:
    guarded.on("MuteTracks", Effects())
    call = guarded.stub.MuteTracks(mute("one"), metadata=(*ADMIN, ("x-request-id", "call-1")))
    await call
    found = await row(guarded)
    assert found.request_id == "call-1"
    assert found.method == "/track.v1.TrackService/MuteTracks"
    assert found.permission == access_pb2.PERMISSION_MUTE
    assert found.room == "room"
    assert (found.principal.kind, found.principal.identity) == (access_pb2.PRINCIPAL_KIND_ADMIN, "admin")
    assert found.principal.grants.room == "room"
    assert found.peer.startswith("127.0.0.1:")
    assert json_format.MessageToDict(found.request) == {
        "room": "room",
        "tracks": [{"track_sid": "TR_a"}],
        "request_id": "one",
    }
    assert [target.track_sid for target in found.targets] == ["TR_1"]
    assert (found.code, found.reason, found.message, found.validate_only) == (0, 0, "", False)
    assert 0 < found.duration.ToNanoseconds() < 10e9
    assert abs(found.time.ToSeconds() - time.time()) < 60
    assert metric(guarded, "track_audit_entries_total") == 1


async def test_the_row_is_there_before_the_answer(harness: Harness, effects: Effects) -> None:
    for request_id in ("", "one"):
        before = len(await rows(harness))
        await harness.stub.MuteTracks(mute(request_id))
        assert len(await rows(harness)) == before + 1


async def test_an_answer_waits_for_its_row(harness: Harness, effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()
    append = harness.store.journal.append

    async def held(*arguments: Any) -> int:
        await release.wait()
        return await append(*arguments)

    monkeypatch.setattr(harness.store.journal, "append", held)
    calls = [asyncio.ensure_future(harness.stub.MuteTracks(mute(request_id))) for request_id in ("", "one", "one")]
    try:
        await until(lambda: len(effects.keys) == 2)
        _, waiting = await asyncio.wait(calls, timeout=0.1)
        assert len(waiting) == 3
    finally:
        release.set()
    await asyncio.gather(*calls)
    assert len(await rows(harness)) == 2


async def test_what_is_sent_again_is_one_row_also_a_thousand_times_at_once(harness: Harness, effects: Effects) -> None:
    effects.release.clear()
    calls = [asyncio.ensure_future(harness.stub.MuteTracks(mute())) for _ in range(1000)]
    await effects.started.wait()
    effects.release.set()
    async with asyncio.timeout(45):
        await asyncio.gather(*calls)
    await harness.stub.MuteTracks(mute())
    assert len(effects.keys) == len(await rows(harness)) == 1


@pytest.mark.parametrize("request_id", ["", "one"])
async def test_failures_are_rows_with_their_reason_and_faults_without_our_words(
    harness: Harness, effects: Effects, request_id: str
) -> None:
    for error in (
        errors.TrackNotFound("there is no such track"),
        ValueError("secret of ours"),
        ExceptionGroup("several", [errors.LiveKitUnavailable("LiveKit does not answer")]),
        StoreError("disk"),
    ):
        effects.error = error
        await failure(harness.stub.MuteTracks(mute(request_id)))
    found = await rows(harness)
    assert [(entry.code, error_pb2.ErrorReason.Name(entry.reason)) for entry in found] == [
        (5, "ERROR_REASON_TRACK_NOT_FOUND"),
        (13, "ERROR_REASON_INTERNAL"),
        (14, "ERROR_REASON_LIVEKIT_UNAVAILABLE"),
        (14, "ERROR_REASON_STORE_UNAVAILABLE"),
    ]
    assert found[0].message == "there is no such track"
    assert found[1].message == "internal error"
    assert [target.track_sid for target in found[0].targets] == ["TR_a"]


@pytest.mark.parametrize("request_id", ["", "one"])
async def test_a_mutation_whose_caller_is_gone_is_a_row(harness: Harness, effects: Effects, request_id: str) -> None:
    effects.release.clear()
    call = harness.stub.MuteTracks(mute(request_id))
    await effects.started.wait()
    call.cancel()
    await until(harness.lines)
    effects.release.set()
    (found,) = await some(harness, 1)
    # With a request_id it goes on without the caller.
    assert (found.code, found.peer.startswith("127.0.0.1:")) == (0 if request_id else 1, True)


async def test_a_mutation_whose_deadline_passes_is_a_row(harness: Harness, effects: Effects) -> None:
    effects.release.clear()
    failed = await failure(harness.stub.MuteTracks(mute(""), timeout=1))
    assert failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    (found,) = await some(harness, 1)
    assert found.code == 4


async def test_what_is_only_validated_is_a_row_that_says_so(harness: Harness, effects: Effects) -> None:
    request = mute("one")
    request.validate_only = True
    await harness.stub.MuteTracks(request)
    assert (await row(harness)).validate_only
    await harness.stub.MuteTracks(mute("one"))
    assert [entry.validate_only for entry in await rows(harness)] == [True, False]


async def test_a_token_that_was_made_is_a_row_without_the_token(harness: Harness) -> None:
    async def create(request: Any, context: Any) -> token_pb2.CreateTrackTokenResponse:
        return token_pb2.CreateTrackTokenResponse(token="the secret", participant_identity="alice")

    harness.on("CreateTrackToken", create)
    await harness.stub.CreateTrackToken(
        token_pb2.CreateTrackTokenRequest(room="room", operation=access_pb2.TRACK_OPERATION_PUBLISH)
    )
    found = await row(harness)
    assert [target.participant_identity for target in found.targets] == ["alice"]
    assert found.request["operation"] == "TRACK_OPERATION_PUBLISH"
    assert "secret" not in str(found)


async def test_a_store_that_fails_fails_mutations_before_they_act_until_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(tmp_path / "full.sqlite3") as store, serving(tmp_path, store=store) as running:
        effects = Effects()
        running.on("MuteTracks", effects)

        def full(connection: object) -> None:
            raise sqlite3.OperationalError("disk full")

        with monkeypatch.context() as patch, structlog.testing.capture_logs() as logged:
            patch.setattr(store._transactions, "_before_commit", full)
            # Its row cannot be written, which nobody knew before: what has happened is told.
            await running.stub.MuteTracks(mute(""))
            failed = await failure(running.stub.MuteTracks(mute("")))
        assert [line["event"] for line in logged] == ["audit_entry_not_written"]
        assert failed.code() is grpc.StatusCode.UNAVAILABLE
        assert details(failed)["ErrorInfo"].reason == "STORE_UNAVAILABLE"
        assert details(failed)["RetryInfo"].retry_delay.ToNanoseconds() > 0
        assert len(effects.keys) == 1
        assert metric(running, "track_audit_failures_total") == 1
        await running.stub.MuteTracks(mute(""))
        assert (len(effects.keys), len(await rows(running))) == (2, 1)


async def test_the_row_and_the_kept_answer_share_a_transaction(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "shared.sqlite3") as store, serving(tmp_path, store=store) as running:
        running.on("MuteTracks", Effects())
        commits = 0
        counted = store._transactions._before_commit

        def count(connection: sqlite3.Connection) -> None:
            nonlocal commits
            commits += 1
            counted(connection)

        store._transactions._before_commit = count
        for n in range(50):
            await running.stub.MuteTracks(mute(f"{n}"))
        # Not always: the disk may be asked between the one and the other.
        assert commits < 90


async def test_callers_and_keys_are_named_as_they_were_known(tmp_path: Path) -> None:
    authenticator = TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))
    async with serving(tmp_path, authenticator=authenticator) as running:

        async def who(request: Any, context: Any) -> tracks_pb2.MuteTracksResponse:
            assert current_call().caller.identity
            return tracks_pb2.MuteTracksResponse()

        running.on("MuteTracks", who)
        await running.stub.MuteTracks(mute(), metadata=bearer("service", roomList=True, roomAdmin=True, room="room"))
        found = await row(running)
        assert found.principal.kind == access_pb2.PRINCIPAL_KIND_SERVICE
        assert API_SECRET not in str(found)
        assert "eyJ" not in str(found)


def test_a_recorded_rpc_that_streams_is_not_served() -> None:
    class Rpc:
        name = "Streams"
        containing_service = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"]
        input_type = event_pb2.WatchEventsRequest.DESCRIPTOR
        client_streaming = False
        server_streaming = True

        def GetOptions(self) -> Any:
            method = self.containing_service.methods_by_name["CreateTrackToken"]
            return method.GetOptions()

    with pytest.raises(ContractError, match="recorded and streams"):
        declared(Rpc(), lambda raw: raw, lambda message: message)  # type: ignore[arg-type]
