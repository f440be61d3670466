"""GetServerInfo, health, reflection, and the way out."""

import asyncio
import signal
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.publications import DEADLINE_S, TONE
from tests.refusals import refusal
from tests.server_process import ServerProcess
from tests.streams import EventStream, events
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2, publication_pb2, server_info_pb2

SERVICE = "track.v1.TrackService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def check(stub: Any, service: str) -> int:
    """Health's answer."""
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)).status)


async def test_the_server_tells_what_it_is_and_what_livekit_can_do(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with track.client("anybody", room_join=True, room=room) as client, events(client, room) as stream:
        await stream.snapshot()
        info = await client.GetServerInfo(server_info_pb2.GetServerInfoRequest())
    assert info.version
    assert info.auth_mode == server_info_pb2.AUTH_MODE_TOKEN
    assert info.livekit.reachable
    assert info.livekit.version == livekit.version
    assert info.livekit.url == livekit.url
    assert info.watched_rooms >= 1
    features = {feature.name: feature for feature in info.features}
    assert {"data_tracks", "sfu_score", "subscription_evidence", "remote_unmute", "hosted_publishing"} <= set(features)
    assert features["subscription_evidence"].supported
    assert features["hosted_publishing"].supported
    assert not features["remote_unmute"].HasField("supported")
    assert all(feature.detail for feature in info.features)
    assert info.limits.max_page_size == 1000
    assert info.limits.min_report_interval.seconds == 1
    assert info.limits.default_wait.seconds == 10
    assert info.limits.max_request_bytes > 100_000


async def test_health_is_answered_without_a_token(track: TrackProcess) -> None:
    async with grpc.aio.insecure_channel(track.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert await check(health, "") == SERVING
        assert await check(health, SERVICE) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await check(health, "no.such.Service")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await health.List(health_pb2.HealthListRequest())
        assert {"", SERVICE} <= set(listed.statuses)
        assert listed.statuses[SERVICE].status == SERVING


async def test_readiness_follows_livekit_and_liveness_does_not(
    start_livekit: StartLiveKit, start_track: StartTrack
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with grpc.aio.insecure_channel(track.address) as channel, asyncio.timeout(60):
        health = health_pb2_grpc.HealthStub(channel)
        call = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        watched = aiter(call)
        assert (await anext(watched)).status == SERVING
        await livekit.stop()
        assert (await anext(watched)).status == NOT_SERVING
        assert await check(health, SERVICE) == NOT_SERVING
        assert await check(health, "") == SERVING
        async with track.client("anybody", room_list=True) as client:
            info = await client.GetServerInfo(server_info_pb2.GetServerInfoRequest())
            assert not info.livekit.reachable
            assert info.livekit.version == livekit.version
        await livekit.start()
        assert (await anext(watched)).status == SERVING
        call.cancel()


async def test_reflection_shows_the_contract_without_a_token(track: TrackProcess) -> None:
    async with grpc.aio.insecure_channel(track.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # for both kinds
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        services = [found.name for found in (await call.read()).list_services_response.service]
        assert SERVICE in services
        assert "grpc.health.v1.Health" in services
        assert "track.media.v1.MediaService" not in services
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        files = (await call.read()).file_descriptor_response.file_descriptor_proto
        names = [descriptor_pb2.FileDescriptorProto.FromString(raw).name for raw in files]
        assert "track/v1/track_service.proto" in names
        await call.done_writing()


async def test_sigterm_drains(start_track: StartTrack, livekit: LiveKitProcess, room_name: str) -> None:
    track = await start_track(livekit, {"TRACK_DRAIN_SECONDS": "5", "TRACK_MEDIA_WORKERS": "0"})
    process = psutil.Process(track.pid)
    children = process.children(recursive=True)
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as admin,
        grpc.aio.insecure_channel(track.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watched = aiter(health.Watch(health_pb2.HealthCheckRequest(service=SERVICE)))
        assert (await anext(watched)).status == SERVING
        stream = EventStream(admin.WatchEvents(event_pb2.WatchEventsRequest(room=room_name)))
        await stream.snapshot()
        # It waits for its track until a little before its deadline: there is no worker.
        request = publication_pb2.PublishTrackRequest(
            room=room_name, spec=TONE, participant_identity="late", request_id="late"
        )
        running = asyncio.create_task(_publish(admin, request))
        await stream.until("publication_moved")

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            assert (await anext(watched)).status == NOT_SERVING
        refused = await refusal(stream.end())
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert refused.retry_s is not None
        answer = await running
        assert answer.publication.participant_identity == "late"
    assert await track.stop() == 0
    assert not [child for child in children if child.is_running()]


async def _publish(
    client: Client, request: publication_pb2.PublishTrackRequest
) -> publication_pb2.PublishTrackResponse:
    answer: publication_pb2.PublishTrackResponse = await client.PublishTrack(request, timeout=4)
    return answer


async def test_idle_it_ends_at_once_with_status_0(
    start_track: StartTrack, livekit: LiveKitProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a user starts it, all of it.
    monkeypatch.setattr(ServerProcess, "loaded", None)
    track = await start_track(livekit)
    worker = track.worker
    assert await track.stop() == 0
    assert not worker.is_running()
    assert not [entry for entry in track.log() if entry.get("level") in ("error", "critical")]
