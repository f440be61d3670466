"""PullMedia against LiveKit's SDK alone: what each takes of a processor."""

import asyncio
import contextlib
from typing import Final

import psutil
from livekit import api

from bench.figures import Figure, at_least
from bench.processes import Helper, cpu_s
from bench.rounds import ratios, spread
from bench.stand import Stand
from track.v1 import pull_pb2

_GOAL: Final = 0.7
# The connections come up, and WebRTC finds out what they carry.
_SETTLE_S: Final = 8.0
_WINDOW_S: Final = 6.0
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
        await asyncio.sleep(_SETTLE_S)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(stand.effort.rounds):
            before = _processes_s(track.pid), cpu_s(sdk.pid), await caller.ask("taken"), await sdk.ask("taken")
            await asyncio.sleep(_WINDOW_S)
            after = _processes_s(track.pid), cpu_s(sdk.pid), await caller.ask("taken"), await sdk.ask("taken")
            spent = [later - earlier for earlier, later in zip(before, after, strict=True)]
            ours.append(1000 * spent[0] / spent[2])
            theirs.append(1000 * spent[1] / spent[3])
        await caller.ask("leave")
    note = (
        f"{what}, pulled by one caller, and received by one process that makes the same of it with the SDK alone;"
        " processor time of the server, its media worker and their children together against that of the process, for"
        f" a thousand frames, as PullStats and the process count them: s {spread(ours)} against {spread(theirs)};"
        f" {stand.effort.rounds} windows of {_WINDOW_S:g} s, sums compared; window by window {ratios(theirs, ours)}"
    )
    value = sum(theirs) / sum(ours)
    return at_least(f"PullMedia {name} throughput per core against the bare SDK", value, "ratio", _GOAL, note)


async def _published(stand: Stand, room: str) -> list[str]:
    """SIDs of the tracks in the room, once there are any."""
    async with stand.api() as client, asyncio.timeout(30):
        while True:
            answer = await client.room.list_participants(api.ListParticipantsRequest(room=room))
            if sids := [track.sid for participant in answer.participants for track in participant.tracks]:
                return sids
            await asyncio.sleep(0.1)


def _processes_s(pid: int) -> float:
    """Processor time of a process and all below it, in seconds."""
    process = psutil.Process(pid)
    return sum(cpu_s(each.pid) for each in (process, *process.children(recursive=True)))
