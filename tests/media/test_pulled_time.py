"""How long a pulling session lasts, and what it says meanwhile: over a socket, without a room."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio
from livekit import rtc

from track.media.v1.media_service_pb2 import PullDesired
from track.v1 import pull_pb2, track_pb2
from track_server.localwire import read_message
from track_server.media.pulling import pipeline as pipeline_module
from track_server.media.pulling.outlet import Outlet
from track_server.media.pulling.pipeline import Pipeline
from track_server.pullwire import Kind

DEADLINE_S = 30.0
WAV = PullDesired(
    track_sid="TR_a",
    type=track_pb2.TRACK_TYPE_AUDIO,
    container=pull_pb2.PULL_CONTAINER_WAV,
    channels=1,
    max_duration_us=1_000,
)


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[tuple[asyncio.StreamReader, Outlet]]:
    """What the server reads, and what the session writes to."""
    ours, theirs = socket.socketpair()
    reader, far = await asyncio.open_unix_connection(sock=ours)
    _, writer = await asyncio.open_unix_connection(sock=theirs)
    try:
        yield reader, Outlet(writer)
    finally:
        for end in (writer, far):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()


@contextlib.asynccontextmanager
async def running(pipeline: Pipeline) -> AsyncIterator[None]:
    """The pipeline's work, for the span of the block."""
    work = asyncio.create_task(pipeline.run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def said(reader: asyncio.StreamReader) -> list[tuple[int, pull_pb2.PullMediaResponse]]:
    """All that is said, to the last word."""
    messages: list[tuple[int, pull_pb2.PullMediaResponse]] = []
    async with asyncio.timeout(DEADLINE_S):
        while not messages or messages[-1][0] != Kind.ENDED:
            kind, _, payload = await read_message(reader, 1_000_000)
            messages.append((kind, pull_pb2.PullMediaResponse.FromString(payload)))
    return messages


async def test_getting_to_the_track_takes_none_of_the_time(wire: tuple[asyncio.StreamReader, Outlet]) -> None:
    reader, outlet = wire
    pipeline = Pipeline(WAV, outlet)
    async with running(pipeline):
        # The connection takes longer than the whole is to last: nothing but how it goes is said meanwhile.
        async with asyncio.timeout(DEADLINE_S):
            kind, _, _ = await read_message(reader, 1_000_000)
        assert kind == Kind.NOTE
        pipeline.await_frames()
        pipeline.sound(rtc.AudioFrame(bytes(9_600), 48_000, 1, 4_800))
        messages = await said(reader)
    # A header of 44 bytes, and a millisecond.
    assert sum(len(response.chunk.data) for kind, response in messages if kind == Kind.FRAME) == 44 + 96
    assert messages[-1][1].ended.reason == pull_pb2.PULL_END_REASON_MAX_DURATION


async def test_where_no_frame_comes_it_ends_all_the_same_and_does_not_chatter(
    wire: tuple[asyncio.StreamReader, Outlet],
) -> None:
    reader, outlet = wire
    pipeline = Pipeline(WAV, outlet)
    pipeline.await_frames()
    async with running(pipeline):
        messages = await said(reader)
    assert messages[-1][1].ended.reason == pull_pb2.PULL_END_REASON_MAX_DURATION
    assert [kind for kind, _ in messages].count(Kind.NOTE) <= 2


async def test_a_publication_that_was_away_for_long_is_silence_in_pieces_that_a_client_takes(
    wire: tuple[asyncio.StreamReader, Outlet], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, outlet = wire
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(pipeline_module, "time", SimpleNamespace(monotonic=lambda: now.s))
    desired = PullDesired()
    desired.CopyFrom(WAV)
    desired.max_duration_us = 0
    pipeline = Pipeline(desired, outlet)
    sound = rtc.AudioFrame(bytes(9_600), 48_000, 1, 4_800)
    async with running(pipeline):
        pipeline.begin_sound()
        pipeline.sound(sound)
        now.s = 1_000.0
        pipeline.begin_sound()
        pipeline.sound(sound)
        expected = 44 + 96_000 * 1_000 + 9_600
        sizes: list[int] = []
        async with asyncio.timeout(DEADLINE_S):
            while sum(sizes) < expected:
                kind, _, payload = await read_message(reader, 1_000_000)
                if kind == Kind.FRAME:
                    sizes.append(len(pull_pb2.PullMediaResponse.FromString(payload).chunk.data))
                    outlet.freed(len(payload))
    assert sum(sizes) == expected
    assert max(sizes) < 200_000
    assert outlet.stats.frames_delivered == 2
    assert outlet.stats.frames_dropped == 0
