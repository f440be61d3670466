"""What a participant's app tells of what it sends: made up, so that a test can say what is lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import grpc

from tests.track_process import Client
from track.v1 import quality_stats_pb2 as pb

EVERY_S: Final = 1.0
_PACKETS: Final = 50
"""Of sound, a second."""


class Uplink:
    """The microphone of who calls. ``client``: it tells by. ``loss``: share of packets that LiveKit misses."""

    def __init__(self, client: Client, room: str, track_sid: str) -> None:
        self.client = client
        self.loss = 0.0
        self._room = room
        self._sid = track_sid
        self._packets = self._lost = 0.0
        self._told_s = time.time()

    async def tell(self) -> None:
        """One report, of what was sent since the last. A server that is away is told later."""
        now = time.time()
        sent = _PACKETS * (now - self._told_s)
        self._told_s = now
        self._packets += sent
        self._lost += sent * self.loss
        stream = pb.StreamStats(
            ssrc=7,
            packets=round(self._packets),
            bytes=round(self._packets) * 80,
            packets_lost=round(self._lost),
            rtt_ms=30,
        )
        sample = pb.TrackStats(track_sid=self._sid, sent=True, streams=[stream])
        sample.measure_time.FromNanoseconds(time.time_ns())
        sample.streams[0].remote_time.CopyFrom(sample.measure_time)
        request = pb.ReportTrackStatsRequest(room=self._room, samples=[sample])
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.client.ReportTrackStats(iter([request]), timeout=10)


@contextlib.asynccontextmanager
async def uplink(client: Client, room: str, track_sid: str) -> AsyncIterator[Uplink]:
    """Tells of it each second, for the span of the block."""
    told = Uplink(client, room, track_sid)

    async def tell() -> None:
        while True:
            await told.tell()
            await asyncio.sleep(EVERY_S)

    telling = asyncio.create_task(tell())
    try:
        yield told
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
