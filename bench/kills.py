"""A media worker is killed: how long until its publication is live again."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from grpc import aio

from bench.figures import Figure, at_most, told
from bench.publications import ms
from bench.rounds import spread
from bench.stand import Stand
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_GOAL_S: Final = 5.0
_LIMIT_S: Final = 60.0
_LOOK_S: Final = 0.005


async def measure(stand: Stand) -> list[Figure]:
    """SIGKILL for the one worker that `serve` started, again and again, with a video live."""
    count = stand.effort.kills
    took: list[float] = []
    async with (
        stand.track_service({}, cpus=stand.server_cpus | stand.client_cpus) as track,
        aio.insecure_channel(track.address) as channel,
    ):
        stub, room = TrackServiceStub(channel), await stand.room()
        metadata = (("authorization", f"Bearer {stand.token('bench', room=room, room_admin=True)}"),)
        spec = pb.PublicationSpec(
            test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(width=640, height=360, frames_per_second=15)
        )
        request = pb.PublishTrackRequest(room=room, spec=spec)
        answer = await stub.PublishTrack(request, metadata=metadata, timeout=30)
        publication_id = answer.publication.publication_id
        get = pb.GetPublicationRequest(room=room, publication_id=publication_id)
        before = await _live(stub, get, metadata, set())
        for _ in range(count):
            begun = time.perf_counter()
            track.worker.kill()
            before = await _live(stub, get, metadata, before)
            took.append(time.perf_counter() - begun)
    note = (
        f"{count} kills of the one worker that the server started, each as soon as the publication was live again after"
        " the one before: from SIGKILL to LIVE with another SID; the time of a new worker process and of its child,"
        f" which load Python and LiveKit's SDK, included; ms {spread(ms(took))}"
    )
    return [
        told("worker killed to live again, median", spread(took).median, "s", note),
        at_most("worker killed to live again, worst", max(took), "s", _GOAL_S, note),
    ]


async def _live(
    stub: "TrackServiceAsyncStub",
    request: pb.GetPublicationRequest,
    metadata: tuple[tuple[str, str], ...],
    before: set[str],
) -> set[str]:
    """Waits until the publication is live under another SID than those; returns all that it had."""
    async with asyncio.timeout(_LIMIT_S):
        while True:
            found = (await stub.GetPublication(request, metadata=metadata)).publication
            if found.state == pb.PUBLICATION_STATE_LIVE and found.track_sid not in before:
                return before | {found.track_sid}
            await asyncio.sleep(_LOOK_S)
