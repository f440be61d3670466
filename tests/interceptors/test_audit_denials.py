"""Denials are rows of the record, strangers are counted, reads are neither."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog

from tests.chained_server import Harness, drained, failure, until
from tests.interceptors.mutations import Effects, mute
from tests.interceptors.recorded import ADMIN, VIEWER, metric, row, rows
from track.v1 import error_pb2, event_pb2, tracks_pb2
from track_server import errors
from track_server.store.records import StoreError


async def test_of_a_thousand_that_are_denied_as_one_there_is_one_row(harness: Harness, effects: Effects) -> None:
    effects.release.clear()
    effects.error = errors.PermissionDenied("not yours")
    calls = [asyncio.ensure_future(harness.stub.MuteTracks(mute())) for _ in range(100)]
    await effects.started.wait()
    await until(lambda: metric(harness, "grpc_server_in_flight", **LABELS) == 100)
    effects.release.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.PERMISSION_DENIED
    }
    found = await row(harness)
    assert (found.code, found.reason) == (7, error_pb2.ERROR_REASON_PERMISSION_DENIED)


LABELS = {"grpc_type": "unary", "grpc_service": "track.v1.TrackService", "grpc_method": "MuteTracks"}


async def test_reads_are_no_rows(guarded: Harness) -> None:
    async def read(request: Any, context: Any) -> tracks_pb2.ListTracksResponse:
        return tracks_pb2.ListTracksResponse()

    guarded.on("ListTracks", read)
    await guarded.stub.ListTracks(tracks_pb2.ListTracksRequest(room="room"), metadata=ADMIN)
    assert await rows(guarded) == []


async def test_denials_of_known_principals_are_rows_wherever_they_are_said(guarded: Harness) -> None:
    async def refused(request: Any, context: Any) -> Any:
        raise errors.PermissionDenied("not this one")

    guarded.on("MuteTracks", refused)
    guarded.on("GetTrack", refused)
    for call in (
        guarded.stub.MuteTracks(mute(), metadata=VIEWER),
        guarded.stub.MuteTracks(mute(room="other"), metadata=ADMIN),
        guarded.stub.MuteTracks(mute(), metadata=ADMIN),
        guarded.stub.GetTrack(tracks_pb2.GetTrackRequest(room="room", track_sid="TR_a"), metadata=ADMIN),
        guarded.stub.ListTracks(tracks_pb2.ListTracksRequest(room="other"), metadata=VIEWER),
        drained(guarded.stub.WatchEvents(event_pb2.WatchEventsRequest(room="other"), metadata=VIEWER)),
    ):
        assert (await failure(call)).code() is grpc.StatusCode.PERMISSION_DENIED
    found = {
        (entry.method.rpartition("/")[2], entry.principal.identity, entry.room): entry for entry in await rows(guarded)
    }
    assert set(found) == {
        ("MuteTracks", "viewer", "room"),
        ("MuteTracks", "admin", "other"),
        ("MuteTracks", "admin", "room"),
        ("GetTrack", "admin", "room"),
        ("ListTracks", "viewer", "other"),
        ("WatchEvents", "viewer", "other"),
    }
    assert len(await rows(guarded)) == 6
    assert {entry.code for entry in found.values()} == {7}
    assert all(entry.message for entry in found.values())
    assert found["MuteTracks", "admin", "other"].request["request_id"] == "one"
    assert found["GetTrack", "admin", "room"].targets[0].track_sid == "TR_a"


async def test_a_stream_that_is_ended_for_lack_of_permission_is_a_row_and_another_end_is_none(guarded: Harness) -> None:
    ends: list[Exception] = [errors.PermissionDenied("no longer"), errors.LiveKitUnavailable("away")]

    async def events(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event_pb2.WatchEventsResponse()
        raise ends.pop(0)

    guarded.on("WatchEvents", events)
    for _ in range(2):
        await failure(drained(guarded.stub.WatchEvents(event_pb2.WatchEventsRequest(room="room"), metadata=VIEWER)))
    found = await row(guarded)
    assert (found.method, found.code, found.message) == ("/track.v1.TrackService/WatchEvents", 7, "no longer")


async def test_what_is_refused_unseen_is_no_row(guarded: Harness) -> None:
    guarded.on("MuteTracks", Effects())
    await guarded.stub.MuteTracks(mute("one"), metadata=ADMIN)
    malformed = await failure(guarded.stub.MuteTracks(mute(room="", sid="x"), metadata=ADMIN))
    reused = await failure(guarded.stub.MuteTracks(mute("one", sid="TR_b"), metadata=ADMIN))
    assert {malformed.code(), reused.code()} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert len(await rows(guarded)) == 1


async def test_strangers_are_counted_by_cause_and_address_and_are_no_rows(guarded: Harness) -> None:
    for metadata in ((), (("authorization", "Bearer nonsense"),), (("authorization", "Bearer nonsense"),)):
        failed = await failure(guarded.stub.MuteTracks(mute(), metadata=metadata))
        assert failed.code() is grpc.StatusCode.UNAUTHENTICATED
    assert await rows(guarded) == []
    assert metric(guarded, "track_unauthenticated_by_address_total", address="127.0.0.1") == 3
    causes = {
        sample.labels["cause"]: sample.value
        for family in guarded.registry.collect()
        for sample in family.samples
        if sample.name == "track_unauthenticated_total"
    }
    assert sum(causes.values()) == 3
    assert sorted(causes.values()) == [1, 2]


async def test_a_denial_is_a_denial_also_where_its_row_cannot_be_written(
    guarded: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*arguments: Any) -> int:
        raise StoreError("the store failed: disk full")

    monkeypatch.setattr(guarded.store.journal, "append", full)
    with structlog.testing.capture_logs() as logged:
        failed = await failure(guarded.stub.MuteTracks(mute(room="other"), metadata=VIEWER))
    assert failed.code() is grpc.StatusCode.PERMISSION_DENIED
    assert [line["event"] for line in logged] == ["audit_entry_not_written"]
