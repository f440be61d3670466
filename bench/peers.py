"""The client process of generated stubs and of livekit-api: what a Python program would use."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import uvloop
from grpc import aio
from livekit import api

from bench.processes import obey
from bench.rounds import percentile
from track.v1 import event_pb2, tracks_pb2
from track.v1.track_service_pb2_grpc import TrackServiceStub


async def list_tracks(address: str, token: str, room: str, concurrency: int, seconds: float) -> dict[str, float]:
    """ListTracks with the generated stub, closed loop."""
    metadata = (("authorization", f"Bearer {token}"),)
    request = tracks_pb2.ListTracksRequest(room=room)
    async with aio.insecure_channel(address) as channel:
        stub = TrackServiceStub(channel)

        async def call() -> int:
            return len((await stub.ListTracks(request, metadata=metadata)).tracks)

        return await _closed_loop(call, concurrency, seconds)


async def list_participants(
    url: str, key: str, secret: str, room: str, concurrency: int, seconds: float
) -> dict[str, float]:
    """`list_participants` with livekit-api, closed loop, all calls over one session."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        api.LiveKitAPI(url, key, secret, session=session) as client,
    ):
        request = api.ListParticipantsRequest(room=room)

        async def call() -> int:
            answer = await client.room.list_participants(request)
            return sum(len(participant.tracks) for participant in answer.participants)

        return await _closed_loop(call, concurrency, seconds)


async def _closed_loop(call: Callable[[], Awaitable[int]], concurrency: int, seconds: float) -> dict[str, float]:
    """Keeps ``concurrency`` calls going; ``call`` returns how many tracks it got."""
    latencies: list[float] = []
    tracks = await call()
    until = time.perf_counter() + seconds

    async def repeat() -> None:
        begun = time.perf_counter()
        while begun < until:
            if await call() != tracks:
                raise AssertionError("an answer has other tracks")
            ended = time.perf_counter()
            latencies.append(ended - begun)
            begun = ended

    before, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(repeat() for _ in range(concurrency)))
    took, used = time.perf_counter() - before, time.process_time() - used
    return {
        "rate": len(latencies) / took,
        "p50_ms": percentile(latencies, 0.5) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
        "client_us": used / len(latencies) * 1e6,
        "tracks": tracks,
    }


class Watching:
    """A reader of WatchEvents."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._seen: list[tuple[str, bool, float]] = []

    async def watch(self, address: str, token: str, room: str) -> int:
        """Begins to read the room's events; returns once the snapshot is there, with its number of tracks."""
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._read(address, token, room, first), name="watch")
        # Where the stream fails, nobody else would tell the one who waits.
        self._task.add_done_callback(lambda _: first.cancel())
        return await first

    async def seen(self) -> list[tuple[str, bool, float]]:
        """SID, whether muted, and when (monotonic seconds of this machine), since the last call."""
        seen, self._seen = self._seen, []
        return seen

    async def aclose(self) -> None:
        """Ends the stream. May be called twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, address: str, token: str, room: str, first: "asyncio.Future[int]") -> None:
        metadata = (("authorization", f"Bearer {token}"),)
        async with aio.insecure_channel(address) as channel:
            messages = TrackServiceStub(channel).WatchEvents(event_pb2.WatchEventsRequest(room=room), metadata=metadata)
            async for message in messages:
                now = time.monotonic()
                match message.event.WhichOneof("change"):
                    case "track_muted":
                        self._seen.append((message.event.track_muted.sid, True, now))
                    case "track_unmuted":
                        self._seen.append((message.event.track_unmuted.sid, False, now))
                    case None if not first.done():
                        first.set_result(len(message.snapshot.tracks))
                    case _:
                        pass


async def _main() -> None:
    watching = Watching()
    try:
        await obey(
            {
                "list_tracks": list_tracks,
                "list_participants": list_participants,
                "watch": watching.watch,
                "seen": watching.seen,
            }
        )
    finally:
        await watching.aclose()


if __name__ == "__main__":
    uvloop.run(_main())
