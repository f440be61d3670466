"""For how long a subscriber has no pictures where a track is replaced, gracefully and abruptly."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from google.protobuf.field_mask_pb2 import FieldMask
from grpc import aio

from bench.figures import Figure, told
from bench.rounds import Spread, spread
from bench.stand import Stand
from tests.updates import Audience, audience
from track.v1 import publication_pb2 as pb
from track.v1 import publication_update_pb2 as updates
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_PICTURES: Final = 30
_WAIT_S: Final = 40.0
_CODECS: Final = (pb.VIDEO_CODEC_VP8, pb.VIDEO_CODEC_H264)

_WAYS: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("with the debug view", {}),
    ("without it", {"TRACK_LIVEKIT_DEBUG_URL": ""}),
)
_Metadata = tuple[tuple[str, str], ...]
_Change = Callable[[pb.Publication, _Metadata], Awaitable[pb.Publication]]


async def measure(stand: Stand) -> list[Figure]:
    """640x360 at 30 fps, at a subscriber of LiveKit's SDK: from the last picture of the old track to the first of the
    new one."""
    figures = []
    for name, settings in _WAYS:
        async with (
            stand.track_service(settings, cpus=stand.server_cpus | stand.client_cpus) as track,
            aio.insecure_channel(track.address) as channel,
        ):
            stub = TrackServiceStub(channel)
            gaps = [await _updated(stub, stand, number) for number in range(stand.effort.gaps)]
            figures.append(_figure(f"gap of UpdatePublication, {name}", gaps))
            if not settings:
                for graceful in (True, False):
                    gaps = [await _restarted(stub, stand, graceful=graceful) for _ in range(stand.effort.gaps)]
                    kind = "graceful" if graceful else "abrupt"
                    figures.append(_figure(f"gap of RestartTrack, {kind} REPUBLISH", gaps))
    return figures


def _figure(name: str, gaps: list[float]) -> Figure:
    seen: Spread = spread([each * 1e3 for each in gaps])
    note = (
        f"decoded pictures of 640x360 at 30 fps at one SDK subscriber on loopback, {len(gaps)} times, each another"
        " publication; below 0: the first picture of the new track came before the last of the old one;"
        f" ms {seen}; worst {max(gaps) * 1e3:.0f}"
    )
    return told(name, seen.median, "ms", note)


async def _updated(stub: "TrackServiceAsyncStub", stand: Stand, number: int) -> float:
    async def change(known: pb.Publication, metadata: _Metadata) -> pb.Publication:
        request = updates.UpdatePublicationRequest(
            room=known.room,
            publication_id=known.publication_id,
            spec=pb.PublicationSpec(video=pb.VideoOptions(codec=_CODECS[number % 2], max_bitrate_bps=700_000)),
            update_mask=FieldMask(paths=["video.codec", "video.max_bitrate_bps"]),
        )
        answer = await stub.UpdatePublication(request, metadata=metadata, timeout=_WAIT_S)
        found: pb.Publication = answer.publication
        return found

    return await _gap(stub, stand, change)


async def _restarted(stub: "TrackServiceAsyncStub", stand: Stand, *, graceful: bool) -> float:
    async def restart(known: pb.Publication, metadata: _Metadata) -> pb.Publication:
        request = updates.RestartTrackRequest(
            room=known.room,
            publication_id=known.publication_id,
            level=updates.RESTART_LEVEL_REPUBLISH,
            graceful=graceful,
        )
        answer = await stub.RestartTrack(request, metadata=metadata, timeout=_WAIT_S)
        found: pb.Publication = answer.publication
        return found

    return await _gap(stub, stand, restart)


async def _gap(stub: "TrackServiceAsyncStub", stand: Stand, change: _Change) -> float:
    room = await stand.room()
    metadata = (("authorization", f"Bearer {stand.token('bench', room=room, room_admin=True)}"),)
    async with audience(stand.livekit, room) as seen:
        video = pb.VideoOptions(width=640, height=360, frames_per_second=30, max_bitrate_bps=600_000)
        spec = pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=video)
        request = pb.PublishTrackRequest(room=room, spec=spec)
        known = (await stub.PublishTrack(request, metadata=metadata, timeout=_WAIT_S)).publication
        await _sees(seen, known.track_sid)
        after = await change(known, metadata)
        await _sees(seen, after.track_sid)
        gone = pb.UnpublishTrackRequest(room=room, publication_id=known.publication_id)
        await stub.UnpublishTrack(gone, metadata=metadata, timeout=_WAIT_S)
        return seen.gap_s(known.track_sid, after.track_sid)


async def _sees(seen: Audience, sid: str) -> None:
    async with asyncio.timeout(_WAIT_S):
        while len(seen.of(sid)) < _PICTURES:
            await asyncio.sleep(0.05)
