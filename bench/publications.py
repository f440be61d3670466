"""PublishTrack until the track is in the room, against connecting and publishing with the official SDK until it is."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from grpc import aio

from bench.figures import Figure, at_most
from bench.processes import Helper
from bench.rounds import interleaved, ratios, spread
from bench.stand import Stand
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_GOAL: Final = 1.3
_WARM_UP: Final = 2
_SETTLE_S: Final = 0.5


async def measure(stand: Stand) -> list[Figure]:
    """A 720p30 simulcast camera, each time in another room, which exists and is not watched."""
    count = stand.effort.publications
    everywhere = stand.server_cpus | stand.client_cpus
    async with (
        stand.track_service({}, cpus=everywhere) as track,
        Helper("bench.sdk", cpus=everywhere) as sdk,
        aio.insecure_channel(track.address) as channel,
    ):
        stub = TrackServiceStub(channel)

        async def ours() -> float:
            took = await _publish(stub, stand, await stand.room())
            await asyncio.sleep(_SETTLE_S)
            return took

        returns: list[float] = []

        async def theirs() -> float:
            room = await stand.room()
            tokens = [stand.token(name, room=room, room_join=True) for name in ("publisher", "observer")]
            url = stand.livekit.url
            returned, seen = await sdk.ask("publish", url=url, token=tokens[0], observer_token=tokens[1])
            returns.append(returned)
            await asyncio.sleep(_SETTLE_S)
            return float(seen)

        await interleaved(_WARM_UP, ours, theirs)
        mine, peers = await interleaved(count, ours, theirs)
    ratio = spread(mine).median / spread(peers).median
    note = (
        f"test pattern against an SDK source, 720p30 simulcast VP8, {count} of each, interleaved, each in another room"
        " that exists and is not watched yet; from the call to its answer OBSERVED, against `connect` and"
        " `publish_track`, in a process that has loaded the SDK, until another participant sees the track (LiveKit"
        f" announces it with its first packet; `publish_track` itself returns after {spread(ms(returns))} ms);"
        " processes of both on both cores;"
        f" ms {spread(ms(mine))} against {spread(ms(peers))};"
        f" ratio of the medians; of pairs {ratios(mine, peers)}"
    )
    return [at_most("PublishTrack to live against connect and publish with the SDK", ratio, "ratio", _GOAL, note)]


def ms(seconds: list[float]) -> list[float]:
    """Seconds as milliseconds."""
    return [each * 1e3 for each in seconds]


async def _publish(stub: "TrackServiceAsyncStub", stand: Stand, room: str) -> float:
    """Publishes and unpublishes; seconds until the answer to PublishTrack."""
    metadata = (("authorization", f"Bearer {stand.token('bench', room=room, room_admin=True)}"),)
    request = pb.PublishTrackRequest(
        room=room,
        spec=pb.PublicationSpec(
            test_pattern=pb.TestPatternInput(),
            video=pb.VideoOptions(width=1280, height=720, frames_per_second=30, simulcast=True),
        ),
    )
    begun = time.perf_counter()
    answer = await stub.PublishTrack(request, metadata=metadata, timeout=20)
    took = time.perf_counter() - begun
    if answer.stage != pb.STAGE_OBSERVED:
        raise AssertionError(f"the track is not live: {answer}")
    ended = pb.UnpublishTrackRequest(room=room, publication_id=answer.publication.publication_id)
    await stub.UnpublishTrack(ended, metadata=metadata, timeout=20)
    return took
