"""Encoded video through PushMedia against LiveKit's SDK alone: what each takes of a processor."""

import asyncio
from typing import TYPE_CHECKING, Final

import psutil
from grpc import aio

from bench.figures import Figure, at_least
from bench.processes import Helper, cpu_s
from bench.rounds import ratios, spread
from bench.stand import Stand
from track.v1 import media_frame_pb2
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_GOAL: Final = 0.7
_TRACKS: Final = 4
# The connections come up, and WebRTC finds out what they carry.
_SETTLE_S: Final = 8.0
_WINDOW_S: Final = 6.0


async def measure(stand: Stand) -> list[Figure]:
    """Both sides send at the same time, each into a room of its own, and are measured over the same windows."""
    everywhere = stand.server_cpus | stand.client_cpus
    mine, peers = await stand.rooms(2)
    async with (
        stand.track_service({}, cpus=everywhere) as track,
        Helper("bench.encoded_peer", cpus=everywhere) as sdk,
        Helper("bench.push_client", cpus=everywhere) as caller,
        aio.insecure_channel(track.address) as channel,
    ):
        stub: TrackServiceAsyncStub = TrackServiceStub(channel)
        token = stand.token("bench", room=mine, room_admin=True)
        publications = [await _publish(stub, mine, token) for _ in range(_TRACKS)]
        await caller.ask("push", address=track.address, token=token, room=mine, publications=publications)
        peer_token = stand.token("peer", room=peers, room_join=True)
        await sdk.ask("publish", url=stand.livekit.url, token=peer_token, tracks=_TRACKS)
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
    note = (
        f"{_TRACKS} tracks of VP8 720p30, 1.9 Mbit/s, sent in real time by each side at once, each into a room of its"
        " own without subscribers; processor time of the server, its media worker and their children together, against"
        " that of one process that hands the same access units to the SDK; for a thousand access units that the track"
        f" took, as PushStats and `capture_frame` tell: s {spread(ours)} against {spread(theirs)};"
        f" {stand.effort.rounds} windows of {_WINDOW_S:g} s, sums compared; window by window {ratios(theirs, ours)}"
    )
    value = sum(theirs) / sum(ours)
    return [at_least("PushMedia encoded throughput per core against the bare SDK", value, "ratio", _GOAL, note)]


async def _publish(stub: "TrackServiceAsyncStub", room: str, token: str) -> str:
    """All as one participant, as the peer does; the id of the publication."""
    request = pb.PublishTrackRequest(
        room=room,
        participant_identity="bench",
        spec=pb.PublicationSpec(
            push=pb.PushInput(encoded_video=media_frame_pb2.EncodedVideoFormat()),
            video=pb.VideoOptions(width=1280, height=720, frames_per_second=30, max_bitrate_bps=1_900_000),
        ),
    )
    answer = await stub.PublishTrack(request, metadata=(("authorization", f"Bearer {token}"),), timeout=20)
    publication_id: str = answer.publication.publication_id
    return publication_id


def _processes_s(pid: int) -> float:
    """Processor time of a process and all below it, in seconds."""
    process = psutil.Process(pid)
    return sum(cpu_s(each.pid) for each in (process, *process.children(recursive=True)))
