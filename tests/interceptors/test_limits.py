"""Calls beyond a limit: refused before any work, with the limit's name and value; the others go on as before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.chained_server import API_KEY, API_SECRET, Harness, bearer, failure, serving, until
from tests.test_errors import details
from track.media.v1 import media_service_pb2, media_service_pb2_grpc
from track.v1 import event_pb2, tracks_pb2
from track_server import errors
from track_server.access.tokens import TokenAuthenticator
from track_server.interceptors.chain import ChainedServer
from track_server.keys import ApiKey, KeyRing
from track_server.servicer.health import Health

LIST = tracks_pb2.ListTracksRequest(room="room")
OTHER = tracks_pb2.ListTracksRequest(room="other")
WATCH = event_pb2.WatchEventsRequest(room="room")
ALICE = bearer("alice", room="room", roomJoin=True)
BOB = bearer("bob", room="room", roomJoin=True)
SERVICE = bearer("service", roomList=True)


def limited(directory: Path, **limits: int) -> AbstractAsyncContextManager[Harness]:
    """A server in mode `token` with those limits, whose every method answers."""
    authenticator = TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))

    def register(server: ChainedServer) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)

    return serving(directory, authenticator=authenticator, limits=limits, register=register)


async def answering(request: Any, context: Any) -> Any:
    return tracks_pb2.ListTracksResponse()


def quota(failed: grpc.aio.AioRpcError, *, waiting_helps: bool) -> tuple[str, int, str]:
    """Limit, value and subject of a refusal, whose details must agree with each other."""
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    found = details(failed)
    info = found["ErrorInfo"]
    assert (info.domain, info.reason) == ("track.v1", "LIMIT_EXCEEDED")
    (violation,) = found["QuotaFailure"].violations
    assert isinstance(violation, error_details_pb2.QuotaFailure.Violation)
    assert violation.api_service == "track.v1.TrackService"
    assert violation.quota_metric == violation.quota_id == info.metadata["limit"]
    assert str(violation.quota_value) == info.metadata["value"]
    assert violation.subject == info.metadata["subject"]
    assert violation.description == failed.details()
    assert violation.quota_metric in violation.description
    assert str(violation.quota_value) in violation.description
    assert ("RetryInfo" in found) == waiting_helps
    if waiting_helps:
        assert 0 < found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 5
    return violation.quota_metric, violation.quota_value, violation.subject


class Held:
    """Calls that are held until they are let go."""

    def __init__(self) -> None:
        self.entered = 0
        self.go = asyncio.Event()

    async def __call__(self, request: Any, context: Any) -> Any:
        self.entered += 1
        await self.go.wait()
        return tracks_pb2.ListTracksResponse()


async def held_stream(request: Any, context: Any) -> AsyncIterator[Any]:
    yield event_pb2.WatchEventsResponse(cursor="1")
    await asyncio.Event().wait()


async def begun(harness: Harness, metadata: Any, room: str = "room") -> Any:
    """A stream that is open."""
    stream = harness.stub.WatchEvents(event_pb2.WatchEventsRequest(room=room), metadata=metadata)
    await stream.read()
    return stream


@pytest.mark.parametrize(
    ("limit", "subject"),
    [
        ("max_requests_per_second", "server"),
        ("max_requests_per_second_per_principal", "principal alice"),
        ("max_requests_per_second_per_room", "room room"),
    ],
)
async def test_a_second_is_worth_so_many_calls_and_the_next_is_refused(
    tmp_path: Path, limit: str, subject: str
) -> None:
    async with limited(tmp_path, **{limit: 3}) as harness:
        harness.on("ListTracks", answering)
        calls = [harness.stub.ListTracks(LIST, metadata=ALICE) for _ in range(20)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in ended if isinstance(each, grpc.aio.AioRpcError)]
        # Three at once, and one more in each third of a second that the twenty took.
        assert 3 <= 20 - len(refused) < 20
        assert {quota(each, waiting_helps=True) for each in refused} == {(limit, 3, subject)}
        retry_s = details(refused[-1])["RetryInfo"].retry_delay.ToTimedelta().total_seconds()
        await asyncio.sleep(retry_s)
        await harness.stub.ListTracks(LIST, metadata=ALICE)


async def test_a_greedy_principal_does_not_hinder_another(tmp_path: Path) -> None:
    limits = {"max_requests_per_second_per_principal": 5, "max_requests_per_second": 12}
    async with limited(tmp_path, **limits) as harness:
        harness.on("ListTracks", answering)
        greedy = [harness.stub.ListTracks(LIST, metadata=ALICE) for _ in range(100)]
        refused = [
            quota(each, waiting_helps=True)
            for each in await asyncio.gather(*greedy, return_exceptions=True)
            if isinstance(each, grpc.aio.AioRpcError)
        ]
        assert len(refused) > 50
        assert set(refused) == {("max_requests_per_second_per_principal", 5, "principal alice")}
        for _ in range(5):
            await harness.stub.ListTracks(LIST, metadata=BOB)


async def test_who_may_do_nothing_in_a_room_does_not_use_up_what_is_for_it(tmp_path: Path) -> None:
    async with limited(tmp_path, max_requests_per_second_per_room=2) as harness:
        harness.on("ListTracks", answering)
        for _ in range(20):
            denied = await failure(harness.stub.ListTracks(LIST, metadata=bearer("eve", room="other", roomJoin=True)))
            assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
        await harness.stub.ListTracks(LIST, metadata=ALICE)


async def test_the_room_of_others_is_not_hindered(tmp_path: Path) -> None:
    async with limited(tmp_path, max_requests_per_second_per_room=1) as harness:
        harness.on("ListTracks", answering)
        calls = [harness.stub.ListTracks(LIST, metadata=SERVICE) for _ in range(20)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        refused = {quota(each, waiting_helps=True) for each in ended if isinstance(each, grpc.aio.AioRpcError)}
        assert refused == {("max_requests_per_second_per_room", 1, "room room")}
        await harness.stub.ListTracks(OTHER, metadata=SERVICE)


async def test_strangers_use_up_nothing_but_what_is_for_strangers(tmp_path: Path) -> None:
    async with limited(tmp_path, max_authentications_per_second=3, max_requests_per_second=5) as harness:
        harness.on("ListTracks", answering)
        await harness.stub.ListTracks(LIST, metadata=ALICE)
        codes: list[Any] = []
        for number in range(30):
            wrong = (("authorization", f"Bearer nonsense-{number}"),)
            failed = await failure(harness.stub.ListTracks(LIST, metadata=wrong))
            codes.append(failed.code())
            if failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                assert quota(failed, waiting_helps=True) == ("max_authentications_per_second", 3, "server")
        assert grpc.StatusCode.UNAUTHENTICATED in codes
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        # Known already.
        for _ in range(3):
            await harness.stub.ListTracks(LIST, metadata=ALICE)


@pytest.mark.parametrize(
    ("limit", "subject"),
    [("max_concurrent_calls", "server"), ("max_concurrent_calls_per_principal", "principal alice")],
)
async def test_calls_at_once_have_places_that_are_given_back(tmp_path: Path, limit: str, subject: str) -> None:
    async with limited(tmp_path, **{limit: 2}) as harness:
        held = Held()
        harness.on("ListTracks", held)
        first = [asyncio.ensure_future(harness.stub.ListTracks(LIST, metadata=ALICE)) for _ in range(2)]
        await until(lambda: held.entered == 2)
        failed = await failure(harness.stub.ListTracks(LIST, metadata=ALICE))
        assert quota(failed, waiting_helps=True) == (limit, 2, subject)
        # A caller that gives up frees its place, one that is served as well.
        first[0].cancel()
        held.go.set()
        await first[1]
        await until(lambda: first[0].done())
        for _ in range(5):
            await harness.stub.ListTracks(LIST, metadata=ALICE)


async def test_calls_of_one_principal_leave_places_for_others(tmp_path: Path) -> None:
    async with limited(tmp_path, max_concurrent_calls=3, max_concurrent_calls_per_principal=2) as harness:
        held = Held()
        harness.on("ListTracks", held)
        first = [asyncio.ensure_future(harness.stub.ListTracks(LIST, metadata=ALICE)) for _ in range(2)]
        await until(lambda: held.entered == 2)
        await failure(harness.stub.ListTracks(LIST, metadata=ALICE))
        bob = asyncio.ensure_future(harness.stub.ListTracks(LIST, metadata=BOB))
        await until(lambda: held.entered == 3)
        held.go.set()
        await asyncio.gather(*first, bob)


@pytest.mark.parametrize(
    ("limit", "subject", "others"),
    [
        ("max_streams", "server", None),
        ("max_streams_per_principal", "principal service", (BOB, "room")),
        ("max_streams_per_room", "room room", (SERVICE, "other")),
    ],
)
async def test_streams_have_places_that_are_given_back(tmp_path: Path, limit: str, subject: str, others: Any) -> None:
    async with limited(tmp_path, **{limit: 2}) as harness:
        harness.on("WatchEvents", held_stream)
        streams = [await begun(harness, SERVICE) for _ in range(2)]
        failed = await failure(harness.stub.WatchEvents(WATCH, metadata=SERVICE).read())
        assert quota(failed, waiting_helps=True) == (limit, 2, subject)
        if others is not None:
            streams.append(await begun(harness, *others))
        streams[0].cancel()
        async with asyncio.timeout(45):
            while True:
                try:
                    streams.append(await begun(harness, SERVICE))
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)
        for stream in streams:
            stream.cancel()


async def test_a_refused_stream_keeps_no_place(tmp_path: Path) -> None:
    """Taken in the order server, principal, room: what an inner one refuses is given back to the outer ones."""
    async with limited(tmp_path, max_streams=3, max_streams_per_room=1) as harness:
        harness.on("WatchEvents", held_stream)
        streams = [await begun(harness, SERVICE)]
        for _ in range(10):
            failed = await failure(harness.stub.WatchEvents(WATCH, metadata=SERVICE).read())
            assert quota(failed, waiting_helps=True)[0] == "max_streams_per_room"
        streams.append(await begun(harness, SERVICE, "other"))
        for stream in streams:
            stream.cancel()


@pytest.mark.parametrize("rpc", ["ListTracks", "WatchEvents"])
async def test_a_request_that_is_too_large_is_refused_before_it_is_looked_at(tmp_path: Path, rpc: str) -> None:
    async with limited(tmp_path, max_request_bytes=2000) as harness:
        harness.on("ListTracks", answering)
        method: Any = harness.channel.unary_unary if rpc == "ListTracks" else harness.channel.unary_stream
        call = method(f"/track.v1.TrackService/{rpc}")(b"\xff" * 2001, metadata=ALICE)
        failed = await failure(call if rpc == "ListTracks" else call.read())
        assert quota(failed, waiting_helps=False) == ("max_request_bytes", 2000, "request")
        await harness.stub.ListTracks(tracks_pb2.ListTracksRequest(room="room", page_token="x" * 1900), metadata=ALICE)


async def test_metadata_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with limited(tmp_path, max_header_bytes=10_000) as harness:
        harness.on("ListTracks", answering)
        for size in (10_000, 20_000):
            failed = await failure(harness.stub.ListTracks(LIST, metadata=(*ALICE, ("x-padding", "x" * size))))
            assert quota(failed, waiting_helps=False) == ("max_header_bytes", 10_000, "call")
        await harness.stub.ListTracks(LIST, metadata=(*ALICE, ("x-padding", "x" * 9000)))


class _Media(media_service_pb2_grpc.MediaServiceServicer):
    async def Attach(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for _ in request_iterator:
            yield media_service_pb2.AttachResponse()


async def test_media_sessions_are_never_refused(tmp_path: Path) -> None:
    def register(server: ChainedServer) -> None:
        media_service_pb2_grpc.add_MediaServiceServicer_to_server(_Media(), server)

    limits = {"max_requests_per_second": 1, "max_streams": 1, "max_authentications_per_second": 1}
    authenticator = TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))
    async with serving(tmp_path, authenticator=authenticator, limits=limits, register=register) as harness:
        stub: Any = media_service_pb2_grpc.MediaServiceStub(harness.channel)
        attached = []
        for number in range(5):
            metadata = bearer(f"worker-{number}", agent=True)
            stream = stub.Attach(metadata=metadata)
            await stream.write(media_service_pb2.AttachRequest())
            await stream.read()
            attached.append(stream)
        for stream in attached:
            stream.cancel()


async def test_probes_are_never_refused(tmp_path: Path) -> None:
    limits = {"max_requests_per_second": 1, "max_concurrent_calls": 1, "max_streams": 1, "max_request_bytes": 1024}
    async with limited(tmp_path, **limits) as harness:
        stub: Any = health_pb2_grpc.HealthStub(harness.channel)
        for _ in range(20):
            await stub.Check(health_pb2.HealthCheckRequest(service=""))
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(3)]
        for watch in watches:
            await watch.read()
            watch.cancel()


async def test_a_stream_ends_with_its_connections_age_and_says_so(tmp_path: Path) -> None:
    async with limited(tmp_path, max_connection_age_seconds=1) as harness:
        harness.on("WatchEvents", held_stream)
        stream = await begun(harness, SERVICE)
        failed = await failure(stream.read())
        assert failed.code() is grpc.StatusCode.UNAVAILABLE
        found = details(failed)
        assert found["ErrorInfo"].reason == "CONNECTION_AGE"
        assert found["ErrorInfo"].metadata["limit"] == "max_connection_age_seconds"
        assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() < 1


async def test_refusals_are_counted_by_limit(tmp_path: Path) -> None:
    async with limited(tmp_path, max_requests_per_second=1) as harness:
        harness.on("ListTracks", answering)
        calls = [harness.stub.ListTracks(LIST, metadata=ALICE) for _ in range(20)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        refused = sum(isinstance(each, grpc.aio.AioRpcError) for each in ended)
        assert refused

        def refusals() -> float | None:
            labels = {"limit": "max_requests_per_second"}
            return harness.registry.get_sample_value("track_limit_refusals_total", labels)

        await until(lambda: refusals() == refused)
        lines = await harness.logged(20)
        assert sum(line.get("reason") == "LIMIT_EXCEEDED" for line in lines) == refused


async def test_a_limit_of_the_domain_is_told_in_the_same_way(harness: Harness) -> None:
    async def full(request: Any, context: Any) -> Any:
        raise errors.LimitExceeded("max_tracks_per_room", 1_000_000_000, "room ä", field="spec")

    harness.on("ListTracks", full)
    failed = await failure(harness.stub.ListTracks(LIST))
    assert quota(failed, waiting_helps=False) == ("max_tracks_per_room", 1_000_000_000, "room ä")
    assert details(failed)["BadRequest"].field_violations[0].field == "spec"
