"""TrackServices that ask a permission service, and calls whose outcome tells what it said."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.permission_peer import PermissionPeer
from tests.refusals import Refusal, read, refusal
from tests.track_process import Client, TrackProcess
from track.v1 import server_info_pb2, tracks_pb2
from track.v1.access_pb2 import Permission
from track_server.health import SERVICE

READ = Permission.PERMISSION_READ_TRACKS
PUBLISH = Permission.PERMISSION_PUBLISH
MUTE = Permission.PERMISSION_MUTE
SUBSCRIBE = Permission.PERMISSION_SUBSCRIBE
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NO_WORKER = {"TRACK_MEDIA_WORKERS": "0", "TRACK_METRICS_LISTEN": "127.0.0.1:0"}
ALL = """
[[rule]]
name = "all"
permissions = ["READ_SERVER", "READ_TRACKS", "PUBLISH", "MUTE", "SUBSCRIBE"]
when = "true"
lifetime = "1h"
"""

NOBODY_READS = (
    """
[[rule]]
name = "nobody reads"
permissions = ["READ_TRACKS"]
when = "true"
effect = "deny"
reason = "closed for the night"
"""
    + ALL
)


def asking(peer: PermissionPeer, **settings: str) -> dict[str, str]:
    """The settings of a TrackService that asks the peer."""
    return {
        **NO_WORKER,
        "TRACK_AUTH_MODE": "service",
        "TRACK_PERMISSION_ADDRESS": peer.address,
        **settings,
    }


async def info(client: Client) -> server_info_pb2.GetServerInfoResponse:
    """GetServerInfo."""
    answer: server_info_pb2.GetServerInfoResponse = await client.GetServerInfo(
        server_info_pb2.GetServerInfoRequest(), timeout=20
    )
    return answer


async def listing(client: Client, room: str) -> tracks_pb2.ListTracksResponse:
    """ListTracks."""
    answer: tracks_pb2.ListTracksResponse = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room), timeout=45)
    return answer


async def refused_listing(client: Client, room: str) -> Refusal:
    """ListTracks, which must fail."""
    return await refusal(listing(client, room))


async def outcome(client: Client, room: str) -> str:
    """How ListTracks ends: the reason of its failure, or empty."""
    try:
        await listing(client, room)
    except grpc.aio.AioRpcError as error:
        return read(error).reason
    return ""


async def drained(stream: Any) -> None:
    """Reads a stream until it fails."""
    async with asyncio.timeout(45):
        async for _ in stream:
            pass


async def mute(client: Client, room: str, sids: list[str]) -> list[tracks_pb2.MuteResult]:
    """MuteTracks."""
    refs = [tracks_pb2.TrackRef(track_sid=sid) for sid in sids]
    answer = await client.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=refs), timeout=45)
    return list(answer.results)


async def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Waits for it; ``condition`` may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def connected(track: TrackProcess) -> None:
    """Waits until the stream of changes is up."""
    await until(lambda: metric(track, "track_permission_connected", 1))


async def metrics(track: TrackProcess) -> str:
    """What Prometheus would see."""
    url = f"http://{track.metrics_address}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def value(track: TrackProcess, name: str) -> float:
    """Of one metric, by its name with its labels."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", await metrics(track), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def metric(track: TrackProcess, name: str, wanted: float) -> bool:
    return await value(track, name) == wanted


async def serving(track: TrackProcess) -> bool:
    """Whether health calls it ready."""
    async with grpc.aio.insecure_channel(track.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def not_serving(track: TrackProcess) -> bool:
    return not await serving(track)


@asynccontextmanager
async def alice(track: TrackProcess, room: str, **grants: Any) -> AsyncIterator[Client]:
    """A participant of the room."""
    async with track.client("alice", room_join=True, room=room, **grants) as client:
        yield client


async def ends(client: Client, room: str, reason: str) -> bool:
    return await outcome(client, room) == reason


async def seen(client: Client, room: str, sid: str) -> bool:
    return any(found.sid == sid for found in (await listing(client, room)).tracks)
