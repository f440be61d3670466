"""The call's context, its log line and its metrics; who gets in; the way out."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.chained_server import API_KEY, API_SECRET, Harness, bearer, drained, failure, metadata_of, serving, until
from tests.test_errors import details
from track.media.v1 import media_service_pb2, media_service_pb2_grpc
from track.v1 import event_pb2, server_info_pb2, tracks_pb2
from track_server import errors
from track_server.access.tokens import TokenAuthenticator
from track_server.interceptors.chain import ChainedServer
from track_server.interceptors.context import Call, current_call
from track_server.keys import ApiKey, KeyRing
from track_server.livekit.tokens import TokenMint
from track_server.logs import EventWriter
from track_server.servicer.health import Health

LIST = tracks_pb2.ListTracksRequest(room="room")
WATCH = event_pb2.WatchEventsRequest(room="room")
INFO = server_info_pb2.GetServerInfoRequest()


async def tracks(request: Any, context: Any) -> Any:
    return tracks_pb2.ListTracksResponse()


async def info(request: Any, context: Any) -> Any:
    return server_info_pb2.GetServerInfoResponse()


async def _one_event(request: Any, context: Any) -> AsyncIterator[Any]:
    yield event_pb2.WatchEventsResponse(cursor="1")


# Request ids.


async def test_the_callers_request_id_comes_back_and_is_in_the_log(harness: Harness) -> None:
    harness.on("ListTracks", tracks)
    call = harness.stub.ListTracks(LIST, metadata=(("x-request-id", "abc-1:2/3"),))
    await call
    assert ("x-request-id", "abc-1:2/3") in list(await call.trailing_metadata())
    assert (await harness.logged(1))[0]["request_id"] == "abc-1:2/3"


@pytest.mark.parametrize("given", ["", "with space", "a" * 129, 'quote"', "{json}"])
async def test_a_request_id_that_is_not_sane_is_replaced(harness: Harness, given: str) -> None:
    harness.on("ListTracks", tracks)
    await harness.stub.ListTracks(LIST, metadata=(("x-request-id", given),))
    await harness.stub.ListTracks(LIST)
    made = [line["request_id"] for line in await harness.logged(2)]
    assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9]+", one) for one in made)
    assert len(set(made)) == 2


async def test_a_failure_and_a_stream_tell_their_request_id_without_being_asked(harness: Harness) -> None:
    async def failing(request: Any, context: Any) -> Any:
        raise errors.RoomNotFound("No room.")

    harness.on("ListTracks", failing)
    harness.on("WatchEvents", _one_event)
    failed = await failure(harness.stub.ListTracks(LIST))
    stream = harness.stub.WatchEvents(WATCH)
    initial = dict(list(await stream.initial_metadata()))
    await drained(stream)
    ids = {line["request_id"] for line in await harness.logged(2)}
    assert ids == {metadata_of(failed, "x-request-id"), initial["x-request-id"]}


# The call.


async def test_a_handler_finds_its_call_its_caller_and_its_deadline(guarded: Harness) -> None:
    calls: list[Call] = []

    async def handler(request: Any, context: Any) -> Any:
        calls.append(current_call())
        await asyncio.sleep(0)
        assert await asyncio.create_task(asyncio.sleep(0, current_call())) is calls[-1]
        return tracks_pb2.ListTracksResponse()

    guarded.on("ListTracks", handler)
    metadata = bearer("alice", roomJoin=True, room="room")
    await guarded.stub.ListTracks(LIST, metadata=metadata, timeout=20)
    await guarded.stub.ListTracks(LIST, metadata=metadata)
    with_deadline, without = calls
    assert (with_deadline.caller.identity, with_deadline.room) == ("alice", "room")
    # gRPC sends times of 10 s to 100 s in tenths, rounded up: 20.1 s at most, of which nine tenths are left.
    assert 15 < with_deadline.remaining() < 18.091
    assert without.deadline is None
    assert without.remaining() == 10
    assert without.remaining(default_s=3) == 3
    with pytest.raises(LookupError):
        current_call()


@pytest.mark.parametrize(
    ("left_s", "waits_s"), [(100.0, 90.0), (1.0, 0.9), (0.5, 0.45), (0.2, 0.15), (0.05, 0.0), (-1.0, 0.0)]
)
def test_a_command_waits_until_a_little_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch, left_s: float, waits_s: float
) -> None:
    call = Call.__new__(Call)
    call.deadline = 1000.0 + left_s
    monkeypatch.setattr("track_server.interceptors.context.time.monotonic", lambda: 1000.0)
    assert call.remaining() == pytest.approx(waits_s)


# The log.


async def test_every_call_leaves_one_line(guarded: Harness) -> None:
    guarded.on("ListTracks", tracks)
    guarded.on("WatchEvents", _one_event)
    metadata = bearer("alice", roomJoin=True, room="room")
    await guarded.stub.ListTracks(LIST, metadata=metadata)
    await drained(guarded.stub.WatchEvents(WATCH, metadata=metadata))
    await failure(guarded.stub.ListTracks(tracks_pb2.ListTracksRequest(room="other"), metadata=metadata))
    unary, stream, denied = await guarded.logged(3)
    assert unary.keys() == {
        *("timestamp", "level", "event", "method", "code", "duration_ms", "request_id", "peer", "identity", "room"),
    }
    assert (unary["event"], unary["method"]) == ("call", "/track.v1.TrackService/ListTracks")
    assert (unary["identity"], unary["room"], unary["level"]) == ("alice", "room", "info")
    assert unary["timestamp"].endswith("Z")
    assert 0 < unary["duration_ms"] < 5000
    assert unary["peer"].startswith(("ipv4:127.0.0.1:", "ipv6:"))
    assert (stream["sent"], stream["received"]) == (1, 0)
    assert (denied["code"], denied["reason"], denied["room"]) == ("PERMISSION_DENIED", "PERMISSION_DENIED", "other")


async def test_lines_are_written_by_themselves_in_a_moment(harness: Harness) -> None:
    harness.on("ListTracks", tracks)
    await asyncio.gather(*(harness.stub.ListTracks(LIST) for _ in range(250)))
    await until(lambda: harness.log.getvalue().count(b"\n") == 250)


async def test_closing_writes_the_lines_that_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        running.on("ListTracks", tracks)
        await running.stub.ListTracks(LIST)
    assert running.log.getvalue().count(b"\n") == 1


async def test_nothing_is_logged_of_calls_below_the_level(tmp_path: Path) -> None:
    async with serving(tmp_path, level="error") as running:
        running.on("ListTracks", tracks)
        await running.stub.ListTracks(LIST)
        assert running.lines() == []


def test_without_a_stream_events_go_through_structlog() -> None:
    with structlog.testing.capture_logs() as logged:
        EventWriter("info").write(
            [
                {"timestamp": None, "level": "info", "event": "call", "code": "OK"},
                {"timestamp": None, "level": "debug", "event": "call", "code": "OK"},
            ]
        )
    assert logged == [{"log_level": "info", "event": "call", "code": "OK"}]


# Metrics.


async def test_calls_are_counted_by_method_and_code_and_timed(harness: Harness) -> None:
    release = asyncio.Event()

    async def waiting(request: Any, context: Any) -> Any:
        await release.wait()
        return tracks_pb2.ListTracksResponse()

    async def events(request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(3):
            yield event_pb2.WatchEventsResponse(cursor="1")

    labels = {"grpc_type": "unary", "grpc_service": "track.v1.TrackService", "grpc_method": "ListTracks"}

    def value(name: str, **more: str) -> float | None:
        return harness.registry.get_sample_value(name, labels | more)

    harness.on("ListTracks", waiting)
    harness.on("WatchEvents", events)
    calls = [asyncio.ensure_future(harness.stub.ListTracks(LIST)) for _ in range(3)]
    await until(lambda: value("grpc_server_in_flight") == 3)
    assert value("grpc_server_started_total") == 3
    assert value("grpc_server_handled_total", grpc_code="OK") is None
    release.set()
    await asyncio.gather(*calls)
    await failure(harness.stub.ListTracks(tracks_pb2.ListTracksRequest()))
    await until(lambda: value("grpc_server_in_flight") == 0)
    assert value("grpc_server_started_total") == 4
    assert value("grpc_server_handled_total", grpc_code="OK") == 3
    assert value("grpc_server_handled_total", grpc_code="INVALID_ARGUMENT") == 1
    assert value("grpc_server_handling_seconds_count") == 4
    assert value("grpc_server_handling_seconds_bucket", le="+Inf") == 4
    assert (value("grpc_server_handling_seconds_sum") or 0) > 0
    await drained(harness.stub.WatchEvents(WATCH))
    await harness.logged(5)
    labels = {"grpc_type": "server_stream", "grpc_service": "track.v1.TrackService", "grpc_method": "WatchEvents"}
    assert value("grpc_server_msg_sent_total") == 3


# Access.


async def test_a_call_without_a_valid_token_is_unauthenticated_before_its_request_is_looked_at(
    guarded: Harness,
) -> None:
    good = bearer(roomAdmin=True, room="room")
    for metadata in (
        (),
        (("authorization", "Bearer nonsense"),),
        (("authorization", "Bearer nonsense"), *good),
        good * 2,
    ):
        for request in (LIST, tracks_pb2.ListTracksRequest()):
            failed = await failure(guarded.stub.ListTracks(request, metadata=metadata))
            assert failed.code() is grpc.StatusCode.UNAUTHENTICATED
            assert details(failed)["ErrorInfo"].reason == "UNAUTHENTICATED"
        assert (await failure(drained(guarded.stub.WatchEvents(WATCH, metadata=metadata)))).code() is (
            grpc.StatusCode.UNAUTHENTICATED
        )


async def test_the_declared_permission_is_held_against_the_requests_room(guarded: Harness) -> None:
    guarded.on("ListTracks", tracks)
    guarded.on("GetServerInfo", info)
    await guarded.stub.ListTracks(LIST, metadata=bearer(roomJoin=True, room="room"))
    await guarded.stub.ListTracks(LIST, metadata=bearer(roomList=True))
    await guarded.stub.GetServerInfo(INFO, metadata=bearer())
    mute = tracks_pb2.MuteTracksRequest(room="room", tracks=[tracks_pb2.TrackRef(track_sid="TR_a")])
    for call in (
        guarded.stub.ListTracks(LIST, metadata=bearer(roomJoin=True, room="other")),
        guarded.stub.MuteTracks(mute, metadata=bearer(roomList=True)),
        guarded.stub.MuteTracks(mute, metadata=bearer(roomAdmin=True, room="other")),
        drained(guarded.stub.WatchEvents(WATCH, metadata=bearer(roomAdmin=True, room="other"))),
    ):
        failed = await failure(call)
        assert failed.code() is grpc.StatusCode.PERMISSION_DENIED
        assert details(failed)["ErrorInfo"].reason == "PERMISSION_DENIED"


class _Media(media_service_pb2_grpc.MediaServiceServicer):
    async def Attach(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for _ in request_iterator:
            yield media_service_pb2.AttachResponse()


def _register_media(server: ChainedServer) -> None:
    media_service_pb2_grpc.add_MediaServiceServicer_to_server(_Media(), server)


async def test_media_sessions_take_the_agent_grant(tmp_path: Path) -> None:
    authenticator = TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))
    async with serving(tmp_path, authenticator=authenticator, register=_register_media) as running:
        stub: Any = media_service_pb2_grpc.MediaServiceStub(running.channel)
        reports = [media_service_pb2.AttachRequest()] * 2
        worker = (("authorization", f"Bearer {TokenMint(API_KEY, API_SECRET).worker()}"),)
        assert len(await drained(stub.Attach(iter(reports), metadata=worker))) == 2
        denied = await failure(stub.Attach(metadata=bearer(roomAdmin=True, room="room")).read())
        assert denied.code() is grpc.StatusCode.PERMISSION_DENIED


# The way out.


def _draining_error(failed: Any) -> None:
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    found = details(failed)
    assert found["ErrorInfo"].reason == "DRAINING"
    assert found["RetryInfo"].retry_delay.seconds > 0


async def test_a_draining_server_refuses_new_calls_finishes_running_ones_and_ends_streams(harness: Harness) -> None:
    release, ended = asyncio.Event(), asyncio.Event()

    async def waiting(request: Any, context: Any) -> Any:
        await release.wait()
        return tracks_pb2.ListTracksResponse(next_page_token="done")

    async def endless(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield event_pb2.WatchEventsResponse(cursor="1")
            await asyncio.Event().wait()
        finally:
            ended.set()

    harness.on("ListTracks", waiting)
    harness.on("WatchEvents", endless)
    running = asyncio.ensure_future(harness.stub.ListTracks(LIST))
    stream = harness.stub.WatchEvents(WATCH)
    await stream.read()
    await asyncio.sleep(0.02)
    harness.draining.begin()
    assert harness.draining.active
    _draining_error(await failure(stream.read()))
    _draining_error(await failure(harness.stub.ListTracks(LIST)))
    _draining_error(await failure(drained(harness.stub.WatchEvents(WATCH))))
    assert ended.is_set()
    release.set()
    assert (await running).next_page_token == "done"
    lines = await harness.logged(4)
    assert [line["reason"] for line in lines if line["code"] != "OK"] == ["DRAINING"] * 3
    harness.draining.begin()


async def test_a_stream_that_waits_for_its_first_message_is_ended_by_the_drain(harness: Harness) -> None:
    named = {"grpc_type": "bidi_stream", "grpc_service": "track.v1.TrackService", "grpc_method": "PushMedia"}
    stream = harness.stub.PushMedia()
    reading = asyncio.ensure_future(stream.read())
    await until(lambda: harness.registry.get_sample_value("grpc_server_started_total", named))
    harness.draining.begin()
    _draining_error(await failure(reading))


async def test_probes_hear_the_last_health_and_media_sessions_go_on_longest(tmp_path: Path) -> None:
    servicer = Health()

    def register(server: ChainedServer) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        _register_media(server)

    async with serving(tmp_path, register=register) as running:
        probe: Any = health_pb2_grpc.HealthStub(running.channel)
        media: Any = media_service_pb2_grpc.MediaServiceStub(running.channel)
        watch = probe.Watch(health_pb2.HealthCheckRequest(service=""))
        await watch.read()
        attached = media.Attach()
        await attached.write(media_service_pb2.AttachRequest())
        await attached.read()
        running.draining.begin()
        await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await probe.Check(health_pb2.HealthCheckRequest(service=""))
        await attached.write(media_service_pb2.AttachRequest())
        await attached.read()
        await running.draining.end_probes()
        _draining_error(await failure(watch.read()))
        await attached.write(media_service_pb2.AttachRequest())
        await attached.read()
        running.draining.end_streams()
        _draining_error(await failure(attached.read()))
