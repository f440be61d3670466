"""From a change of the rules to the end of the streams that they no longer allow."""

import asyncio
import contextlib
import time
from typing import Final

import grpc

from bench.figures import Figure, at_most
from bench.processes import pinned
from bench.rounds import percentile, spread
from bench.stand import Stand
from tests.permission_process import PermissionProcess
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2

_GOAL_S: Final = 1.0
_STREAMS: Final = 20
_DEADLINE_S: Final = 30.0
_ALLOWED: Final = '[[rule]]\nname = "all"\nwhen = "true"\nlifetime = "5m"\n'
_DENIED: Final = '[[rule]]\nname = "none"\neffect = "deny"\nwhen = "true"\n'


async def measure(stand: Stand) -> list[Figure]:
    """Streams of as many callers, all open; the rules file is replaced by one that denies, and each end is timed."""
    room = await stand.room()
    took: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        with pinned(stand.client_cpus):
            service = await stack.enter_async_context(PermissionProcess(stand.directory / "permissions", _ALLOWED))
        settings = {"TRACK_MEDIA_WORKERS": "0", **service.track_settings}
        track = await stack.enter_async_context(stand.track_service(settings))
        while len(took) < stand.effort.events:
            service.write_rules(_ALLOWED)
            took += await _revoked(service, track, room)
    p95 = percentile(took, 0.95)
    note = (
        f"{len(took)} streams, {_STREAMS} at a time, from the rename of the rules file of `track-server permissions` to"
        f" PERMISSION_DENIED at the client; {spread(took)} s; the service looks at its file several times a second"
    )
    return [at_most("Revocation to closed stream, p95", p95, "s", _GOAL_S, note)]


async def _revoked(service: PermissionProcess, track: TrackProcess, room: str) -> list[float]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(track.client(f"caller-{n}", room=room, room_join=True))
            for n in range(_STREAMS)
        ]
        opened = [asyncio.Event() for _ in clients]
        ends = [asyncio.create_task(_end(client, room, event)) for client, event in zip(clients, opened, strict=True)]
        async with asyncio.timeout(_DEADLINE_S):
            for event in opened:
                await event.wait()
            begun = time.monotonic()
            service.write_rules(_DENIED)
            return [at - begun for at in await asyncio.gather(*ends)]


async def _end(client: Client, room: str, opened: asyncio.Event) -> float:
    """When the stream was closed for lack of permission; begun again as long as it is refused at first."""
    while True:
        try:
            async for _ in client.WatchEvents(event_pb2.WatchEventsRequest(room=room)):
                opened.set()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise
        if opened.is_set():
            return time.monotonic()
        await asyncio.sleep(0.05)
