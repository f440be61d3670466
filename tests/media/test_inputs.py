"""Every input, published by a worker and seen by an independent subscriber."""

import asyncio
import struct
import time

import numpy as np

from tests.livekit_process import LiveKitProcess
from tests.media.peer import MediaPeer, data, pattern, tone
from tests.media.viewer import luma, viewer
from track_server.media.inputs.clock import read_clock
from track_server.media.settings import MediaSettings
from track_server.media.worker import MediaWorker


async def test_a_test_pattern_arrives_in_size_and_rate_with_a_clock_that_runs(
    livekit: LiveKitProcess, worker: MediaWorker, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, pattern("p1", 320, 180, 15))
        report = await session.report_of("p1")
        publication = await seen.publication_of(report.track_sid)
        assert (publication.name, publication.mime_type, publication.simulcasted) == ("p1", "video/VP8", False)
        clocks: list[tuple[float, int]] = []
        async with seen.frames(report.track_sid) as frames:
            while len(clocks) < 30:
                came, frame = await asyncio.wait_for(frames.get(), 10)
                ms = read_clock(luma(frame))
                if (frame.width, frame.height) == (320, 180) and ms is not None:
                    clocks.append((came, ms))
        assert all(0 <= came * 1000 - ms < 2000 for came, ms in clocks), "the clock shows when the picture was made"
        steps = [later - earlier for (_, earlier), (_, later) in zip(clocks, clocks[1:], strict=False)]
        assert all(step > 0 for step in steps)
        rate = (len(clocks) - 1) / ((clocks[-1][1] - clocks[0][1]) / 1000)
        assert 12 < rate < 16.5
