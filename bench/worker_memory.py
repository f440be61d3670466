"""Rooms that go through one media worker: what memory they leave behind."""

import asyncio
from typing import TYPE_CHECKING, Final

import psutil
from grpc import aio

from bench.figures import Figure, at_most
from bench.rounds import spread
from bench.stand import Stand
from tests.track_process import TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_GOAL: Final = 1.2
_AT_ONCE: Final = 4
_BEFORE_RECYCLING: Final = 64
_SETTLE_S: Final = 1.0
_LIMIT_S: Final = 30.0


async def measure(stand: Stand) -> list[Figure]:
    """A small video each, published and unpublished, a few at a time."""
    count = stand.effort.worker_rooms
    settings = {
        "TRACK_WORKER_SESSIONS_BEFORE_RECYCLING": str(_BEFORE_RECYCLING),
        # One child has room for all that are there at a time, so that as many children are idle after as before.
        "TRACK_WORKER_SESSIONS_PER_CHILD": str(2 * _AT_ONCE),
    }
    highest: list[int] = []
    async with (
        stand.track_service(settings, cpus=stand.server_cpus | stand.client_cpus) as track,
        aio.insecure_channel(track.address) as channel,
    ):
        stub = TrackServiceStub(channel)
        # The first session loads what every later one finds loaded.
        await asyncio.gather(*(_through(stub, stand, room) for room in await stand.rooms(_AT_ONCE)))
        before = await _idle(track)
        rooms = iter(await stand.rooms(count))

        async def passing() -> None:
            for room in rooms:
                await _through(stub, stand, room)
                highest.append(_memory(track))

        await asyncio.gather(*(passing() for _ in range(_AT_ONCE)))
        after = await _idle(track)
    return [
        at_most(
            f"{count} rooms through one media worker: memory after against before",
            after / before,
            "ratio",
            _GOAL,
            f"a 320x180 video in each room, {_AT_ONCE} at a time; unshared memory (USS) of the worker and its child"
            f" processes, idle: {after / 1e6:.0f} MB against {before / 1e6:.0f} MB when {_AT_ONCE} rooms had passed;"
            f" on the way, with a child that is on its way out beside its successor, {spread(_mb(highest))} MB;"
            f" children are recycled after {_BEFORE_RECYCLING} rooms here, so that it happens"
            f" {count // _BEFORE_RECYCLING} times (default 200)",
        )
    ]


async def _through(stub: "TrackServiceAsyncStub", stand: Stand, room: str) -> None:
    metadata = (("authorization", f"Bearer {stand.token('bench', room=room, room_admin=True)}"),)
    spec = pb.PublicationSpec(
        test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(width=320, height=180, frames_per_second=15)
    )
    answer = await stub.PublishTrack(pb.PublishTrackRequest(room=room, spec=spec), metadata=metadata, timeout=30)
    if answer.stage != pb.STAGE_OBSERVED:
        raise AssertionError(f"the track is not live: {answer}")
    ended = pb.UnpublishTrackRequest(room=room, publication_id=answer.publication.publication_id)
    await stub.UnpublishTrack(ended, metadata=metadata, timeout=30)


async def _idle(track: TrackProcess) -> int:
    """The memory once one child is left, and has come to rest."""
    async with asyncio.timeout(_LIMIT_S):
        while len(track.worker.children()) > 1:
            await asyncio.sleep(0.1)
    await asyncio.sleep(_SETTLE_S)
    return _memory(track)


def _memory(track: TrackProcess) -> int:
    """Unshared memory of the worker and its children, in bytes."""
    total = 0
    for process in (track.worker, *track.worker.children()):
        try:
            total += process.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # A child that has just ended.
            continue
    return total


def _mb(values: list[int]) -> list[float]:
    return [value / 1e6 for value in values]
