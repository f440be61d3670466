"""PullMedia against LiveKit's SDK alone: what each takes of a processor."""

import asyncio
import contextlib
from typing import Final

from livekit import api

from bench.figures import Figure
from bench.processes import Helper
from bench.side_by_side import side_by_side
from bench.stand import Stand
from track.v1 import pull_pb2

_KINDS: Final = {
    "Matroska": ("matroska", pull_pb2.PULL_CONTAINER_MATROSKA, "a camera of 720p30, made into VP8 in Matroska"),
    "raw pictures": ("frames", 0, "a camera of 720p30, as I420"),
    "WAV": ("sound", pull_pb2.PULL_CONTAINER_WAV, "a microphone, in pieces of 100 ms"),
}


async def measure(stand: Stand) -> list[Figure]:
    """Both sides receive the same track at the same time, and are measured over the same windows."""
    return [await _measure(stand, name, *facts) for name, facts in _KINDS.items()]


async def _measure(stand: Stand, name: str, kind: str, container: int, what: str) -> Figure:
    everywhere = stand.server_cpus | stand.client_cpus
    room = await stand.room()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        track = await enter(stand.track_service({}, cpus=everywhere))
        sdk = await enter(Helper("bench.pull_peer", cpus=everywhere))
        caller = await enter(Helper("bench.pull_client", cpus=everywhere))
        module = "bench.pull_peer" if kind == "sound" else "bench.encoded_peer"
        publisher = await enter(Helper(module, cpus=everywhere))
        url = stand.livekit.url
        source = stand.token("source", room=room, room_join=True)
        if kind == "sound":
            await publisher.ask("sound", url=url, token=source)
        else:
            await publisher.ask("publish", url=url, token=source, tracks=1)
        sids = await _published(stand, room)
        admin, peer = stand.token("bench", room=room, room_admin=True), stand.token("peer", room=room, room_join=True)
        await caller.ask("pull", address=track.address, token=admin, room=room, sids=sids, container=container)
        await sdk.ask("receive", url=url, token=peer, sids=sids, kind=kind)
        sides = await side_by_side(track.pid, caller, sdk, stand.effort.rounds)
        await caller.ask("leave")
    return sides.figure(
        f"PullMedia {name}",
        f"{what}, pulled by one caller, and received by one process that makes the same of it with the SDK alone;"
        " processor time of the server, its media worker and their children together against that of the process, for"
        " a thousand frames, as PullStats and the process count them",
    )


async def _published(stand: Stand, room: str) -> list[str]:
    """SIDs of the tracks in the room, once there are any."""
    async with stand.api() as client, asyncio.timeout(30):
        while True:
            answer = await client.room.list_participants(api.ListParticipantsRequest(room=room))
            if sids := [track.sid for participant in answer.participants for track in participant.tracks]:
                return sids
            await asyncio.sleep(0.1)
