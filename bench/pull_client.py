"""A caller that pulls tracks, and counts what it was told."""

import asyncio
from typing import TYPE_CHECKING, Any

import uvloop
from grpc import aio

from bench.processes import obey
from track.v1 import pull_pb2
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub


class Caller:
    """One stream a track."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: list[Any] = []
        self._taken: dict[str, int] = {}

    async def pull(self, address: str, token: str, room: str, sids: list[str], container: int) -> None:
        """Opens the streams, and reads until the end. ``container``: 0 for frames."""
        channel = aio.insecure_channel(address)
        stub: TrackServiceAsyncStub = TrackServiceStub(channel)
        for sid in sids:
            request = pull_pb2.PullMediaRequest(room=room, track_sid=sid)
            if container:
                request.container = container  # type: ignore[assignment]  # a value of the enum
            else:
                request.frames.SetInParent()
            call = stub.PullMedia(request, metadata=(("authorization", f"Bearer {token}"),))
            self._calls.append(call)
            self._tasks.append(asyncio.create_task(self._read(sid, call)))

    async def taken(self) -> int:
        """Frames that were delivered, as it was told last: up to two seconds ago."""
        return sum(self._taken.values())

    async def leave(self) -> None:
        """Ends the streams."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, sid: str, call: Any) -> None:
        async for answer in call:
            if answer.HasField("stats"):
                self._taken[sid] = answer.stats.frames_delivered

    def commands(self) -> dict[str, Any]:
        """What the parent may ask for."""
        return {"pull": self.pull, "taken": self.taken, "leave": self.leave}


if __name__ == "__main__":
    uvloop.run(obey(Caller().commands()))
