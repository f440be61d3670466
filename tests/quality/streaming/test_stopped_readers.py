"""Readers that stop, over gRPC and the whole chain: cut off with where to resume, and nobody else hears of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from tests.chained_server import Harness, serving
from tests.quality.streaming.told import ToldRoom, View, asked, without_ends
from tests.refusals import refusal
from track.v1.quality_pb2 import QUALITY_LEVEL_EXCELLENT, QUALITY_LEVEL_GOOD, QUALITY_LEVEL_POOR
from track.v1.track_service_pb2_grpc import TrackServiceStub
from track_server.interceptors.context import current_call
from track_server.quality.clock import SystemClock
from track_server.quality.streaming.sheet import standing
from track_server.quality.streaming.streams import Streams

DEADLINE_S = 45
TRACKS = 400
SMALL_WINDOW = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.max_receive_message_length", -1),
)
"""What a client takes in ahead of who reads: little, and no more when the line is fast."""


class Stand:
    """A server with quality streams, and a room whose reports are large: 400 kB in all."""

    def __init__(self, harness: Harness, streams: Streams, room: ToldRoom, channels: AsyncExitStack) -> None:
        self.harness = harness
        self.streams = streams
        self.room = room
        self._channels = channels

    async def read(self, **fields: Any) -> "Reading":
        """Another reader, on a connection of its own."""
        channel = await self._channels.enter_async_context(
            aio.insecure_channel(
                f"127.0.0.1:{self.harness.port}", options=[*SMALL_WINDOW, ("grpc.use_local_subchannel_pool", 1)]
            )
        )
        request = asked(room="room", **fields)
        return Reading(TrackServiceStub(channel).StreamQualityReports(request), request.only_changes)


class Reading:
    """A reader, and what it has put together."""

    def __init__(self, call: Any, only_changes: bool) -> None:
        self.call = call
        self.view = View(None, only_changes=only_changes)  # type: ignore[arg-type]  # it is filled from here

    async def take(self) -> bool:
        """Takes a message; false where the stream has ended. Raises what it ended with."""
        message = await self.call.read()
        if message is aio.EOF:
            return False
        self.view.add(message)
        return True

    async def take_all(self) -> None:
        """Takes all messages of a moment."""
        assert await self.take()
        while self.view.messages[-1].more:
            assert await self.take()


@asynccontextmanager
async def standing_by(directory: Path, patience_s: float) -> AsyncIterator[Stand]:
    clock = SystemClock()
    room = ToldRoom(clock, {f"p{number:03}": [f"TR_a{number}"] for number in range(TRACKS)})
    room.padding = "x" * 1000
    for number in range(TRACKS):
        room.rate(f"TR_a{number}", QUALITY_LEVEL_GOOD)
    async with (
        serving(directory) as harness,
        Streams(lambda live: (room, lambda: None), patience_s=patience_s) as streams,
        AsyncExitStack() as channels,
    ):
        harness.on(
            "StreamQualityReports",
            lambda request, context: streams.stream(room.live, request, current_call().end),
        )
        yield Stand(harness, streams, room, channels)


async def test_a_stopped_reader_is_cut_off_and_resumes_and_others_read_on(tmp_path: Path) -> None:
    async with asyncio.timeout(4 * DEADLINE_S), standing_by(tmp_path, 3.0) as stand:
        alert = stand.room.start("TR_a7")
        reading = await stand.read(only_changes=True)
        stopped = [await stand.read(only_changes=True) for _ in range(8)]
        for each in (reading, *stopped):
            await each.take_all()
        kept = asyncio.create_task(_to_the_end(reading))
        try:
            stand.room.end(alert)
            # All tracks change from beat to beat, so that there is always more to write than a stopped reader takes.
            turns = itertools.cycle([QUALITY_LEVEL_POOR, QUALITY_LEVEL_EXCELLENT, QUALITY_LEVEL_GOOD])
            while _open(stand) > 1:
                level = next(turns)
                for number in range(TRACKS):
                    stand.room.rate(f"TR_a{number}", level)
                await asyncio.sleep(0.5)
            for each in stopped:
                refused = await refusal(_to_the_end(each))
                assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "READER_TOO_SLOW")
                assert refused.retry_s
                # Where the last message that it got left it.
                assert refused.metadata["cursor"] == each.view.cursor
                back = await stand.read(only_changes=True, cursor=refused.metadata["cursor"])
                back.view.reports, back.view.over = each.view.reports, each.view.over
                await back.take_all()
                assert not back.view.messages[0].resync
                assert back.view.over == {alert}
                assert _standing(back) == _truth(stand.room)
                back.call.cancel()
            assert not kept.done(), "who reads is not cut off"
        finally:
            kept.cancel()
            await asyncio.gather(kept, return_exceptions=True)
        assert _standing(reading).keys() == _truth(stand.room).keys()
        assert reading.view.over == {alert}


async def _to_the_end(reading: Reading) -> None:
    while await reading.take():
        pass


def _open(stand: Stand) -> int:
    """Streams that are not cut off."""
    return len(stand.streams._readers)


def _standing(reading: Reading) -> dict[str, int]:
    """What stands, by track."""
    return {sid: standing(without_ends(report)) for sid, report in reading.view.reports.items()}


def _truth(room: ToldRoom) -> dict[str, int]:
    """What does stand."""
    tracks, now = room.live.model.tracks, room.clock.now()
    return {sid: standing(room.report(track, [1.0], now, span_s=1.0)) for sid, track in tracks.items()}
