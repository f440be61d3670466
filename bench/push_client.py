"""A caller that pushes encoded video into publications, in real time."""

import asyncio
from typing import TYPE_CHECKING, Any

import uvloop
from grpc import aio

from bench.access_units import FPS, access_units, in_real_time
from bench.processes import obey
from track.v1 import push_pb2
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub


class Caller:
    """One stream a publication."""

    def __init__(self) -> None:
        self._units = access_units()
        self._tasks: list[asyncio.Task[None]] = []
        self._taken: dict[str, int] = {}

    async def push(self, address: str, token: str, room: str, publications: list[str]) -> None:
        """Opens the streams, and pushes until the end."""
        channel = aio.insecure_channel(address)
        stub: TrackServiceAsyncStub = TrackServiceStub(channel)
        for publication_id in publications:
            call = stub.PushMedia(metadata=(("authorization", f"Bearer {token}"),))
            await call.write(push_pb2.PushMediaRequest(room=room, publication_id=publication_id))
            self._tasks += [
                asyncio.create_task(self._feed(call)),
                asyncio.create_task(self._read(publication_id, call)),
            ]

    async def taken(self) -> int:
        """Access units that the tracks took, as it was told last: up to a second ago."""
        return sum(self._taken.values())

    async def _feed(self, call: Any) -> None:
        async for number, data, keyframe in in_real_time(self._units):
            frame = push_pb2.EncodedVideoFrame(timestamp_us=number * 1_000_000 // FPS, data=data, keyframe=keyframe)
            await call.write(push_pb2.PushMediaRequest(encoded_video=frame))

    async def _read(self, publication_id: str, call: Any) -> None:
        async for answer in call:
            if answer.HasField("stats"):
                self._taken[publication_id] = answer.stats.frames_taken

    def commands(self) -> dict[str, Any]:
        """What the parent may ask for."""
        return {"push": self.push, "taken": self.taken}


if __name__ == "__main__":
    uvloop.run(obey(Caller().commands()))
