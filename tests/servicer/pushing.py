"""A caller that pushes frames, and the publications that it pushes them into."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

import grpc
import numpy as np

from tests.media.encoded import FPS, HEIGHT, WIDTH
from tests.refusals import Refusal, read
from tests.track_process import Client
from track.v1 import media_frame_pb2, push_pb2
from track.v1 import publication_pb2 as pb
from track_server.durations import duration_of

DEADLINE_S: Final = 45.0
STEP_US: Final = 1_000_000 // FPS

Request = push_pb2.PushMediaRequest


def video_of(codec: "pb.VideoCodec.ValueType" = pb.VIDEO_CODEC_VP8) -> pb.VideoOptions:
    """What the pictures of tests/media/encoded.py are."""
    return pb.VideoOptions(codec=codec, width=WIDTH, height=HEIGHT, frames_per_second=FPS)


def push_spec(kind: str, *, video: pb.VideoOptions | None = None, **spans_s: float) -> pb.PublicationSpec:
    """A spec with pushed ``kind``: a format's name. ``spans_s``: `stall_mute` and the like, in seconds."""
    formats = {
        "raw_video": media_frame_pb2.RawVideoFormat(),
        "encoded_video": media_frame_pb2.EncodedVideoFormat(),
        "pcm": media_frame_pb2.PcmFormat(),
        "data": media_frame_pb2.DataFormat(),
    }
    push = pb.PushInput(**{kind: formats[kind]})  # type: ignore[arg-type]  # the format that the name is of
    for name, seconds in spans_s.items():
        getattr(push, name).CopyFrom(duration_of(seconds))
    spec = pb.PublicationSpec(push=push)
    if kind in ("raw_video", "encoded_video"):
        spec.video.CopyFrom(video or video_of())
    return spec


async def publish_push(client: Client, room: str, spec: pb.PublicationSpec, identity: str = "") -> pb.Publication:
    """Publishes it; sound and pictures then wait for their first frame."""
    request = pb.PublishTrackRequest(room=room, spec=spec, participant_identity=identity)
    answer = await client.PublishTrack(request, timeout=DEADLINE_S)
    assert answer.stage >= pb.STAGE_ACKNOWLEDGED, answer
    publication: pb.Publication = answer.publication
    return publication


def raw(number: int, data: bytes, at: int | None = None) -> Request:
    """A raw picture."""
    stamp = number * STEP_US if at is None else at
    return Request(raw_video=push_pb2.RawVideoFrame(timestamp_us=stamp, data=data))


def unit(number: int, data: bytes, *, keyframe: bool, at: int | None = None) -> Request:
    """An access unit."""
    stamp = number * STEP_US if at is None else at
    return Request(encoded_video=push_pb2.EncodedVideoFrame(timestamp_us=stamp, data=data, keyframe=keyframe))


def units(access_units: Sequence[bytes], keyframe_every: int = FPS, begin: int = 0) -> list[Request]:
    """All of them, from ``begin`` on in time."""
    return [
        unit(begin + number, data, keyframe=number % keyframe_every == 0) for number, data in enumerate(access_units)
    ]


def sound(begin_s: float, length_s: float, rate: int, *frequencies_hz: float) -> Request:
    """PCM with one channel for each frequency, half of full scale."""
    times = begin_s + np.arange(round(length_s * rate)) / rate
    waves = [np.sin(2 * np.pi * frequency * times) * 16_000 for frequency in frequencies_hz]
    data = np.stack(waves, axis=1).astype("<i2").tobytes()
    return Request(pcm=push_pb2.PcmFrame(timestamp_us=round(begin_s * 1e6), data=data))


def payload(data: bytes) -> Request:
    """A payload."""
    return Request(data=push_pb2.DataFrame(payload=data))


END: Final = Request(end=push_pb2.EndOfMedia())


class Pusher:
    """One stream. What it is told is read all the time."""

    def __init__(self, client: Client, timeout_s: float | None) -> None:
        # An iterator, not `write`: behind an interceptor gRPC never ends the task that waits for what is written.
        self._outbox: asyncio.Queue[Request | None] = asyncio.Queue(1)
        self._call: Any = client.PushMedia(self._requests(), timeout=timeout_s)
        self.answers: list[push_pb2.PushMediaResponse] = []
        self._changed = asyncio.Event()
        self._over = False
        self._error: grpc.aio.AioRpcError | None = None
        self._reader = asyncio.create_task(self._read())

    async def ready(self) -> push_pb2.PushReady:
        """Waits until frames are taken."""
        await self.until(lambda: bool(self.answers))
        assert self.answers, self._error
        assert self.answers[0].HasField("ready")
        ready: push_pb2.PushReady = self.answers[0].ready
        return ready

    async def send(self, *requests: Request) -> None:
        """Sends them, as fast as gRPC takes them."""
        for request in requests:
            await self._write(request)

    async def play(self, requests: Iterable[Request], begin: float | None = None) -> None:
        """Sends them at their time, by the timestamps; ``begin``: the moment of timestamp 0."""
        zero = begin
        for request in requests:
            frame = getattr(request, request.WhichOneof("frame") or "")
            stamp = frame.timestamp_us / 1e6
            zero = time.monotonic() - stamp if zero is None else zero
            await asyncio.sleep(max(0.0, zero + stamp - time.monotonic()))
            await self._write(request)

    async def finish(self) -> push_pb2.PushStats:
        """Ends the media, and waits for the end of the stream; the last statistics."""
        await self._write(END)
        await self.over()
        assert self._error is None, self._error
        return self.stats()

    async def hang_up(self) -> None:
        """Ends the stream, not the media."""
        await self._write(None)
        await self.over()
        assert self._error is None, self._error

    def stats(self) -> push_pb2.PushStats:
        """The last statistics."""
        found: list[push_pb2.PushStats] = [answer.stats for answer in self.answers if answer.HasField("stats")]
        return found[-1] if found else push_pb2.PushStats()

    def told(self, event: str) -> list[push_pb2.PushMediaResponse]:
        """All answers of a kind."""
        return [answer for answer in self.answers if answer.WhichOneof("event") == event]

    @property
    def credit(self) -> int:
        """All bytes that it was told it may send."""
        return sum(answer.ready.credit.bytes + answer.credit.bytes for answer in self.answers)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds of the answers, or the stream is over."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition() and not self._over:
                self._changed.clear()
                await self._changed.wait()

    async def over(self) -> None:
        """Waits for the end of the stream."""
        await self.until(lambda: False)

    async def refused(self) -> Refusal:
        """Waits for the end, which must be a failure."""
        await self.over()
        assert self._error is not None, self.answers
        return read(self._error)

    async def aclose(self) -> None:
        """Breaks the stream where it is open still."""
        self._call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        if self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    async def _requests(self) -> AsyncIterator[Request]:
        while (request := await self._outbox.get()) is not None:
            yield request

    async def _write(self, request: Request | None) -> None:
        """Returns when gRPC has taken the one before; at once where the stream is over."""
        if not self._over:
            writing = asyncio.ensure_future(self._outbox.put(request))
            try:
                await asyncio.wait([writing, self._reader], return_when=asyncio.FIRST_COMPLETED)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for answer in self._call:
                self.answers.append(answer)
                self._changed.set()
        except grpc.aio.AioRpcError as error:
            self._error = error
        finally:
            self._over = True
            self._changed.set()


@contextlib.asynccontextmanager
async def pushing(
    client: Client, publication: pb.Publication, *, timeout_s: float | None = None
) -> AsyncIterator[Pusher]:
    """A stream into the publication, broken at the end where it is open still."""
    first = Request(room=publication.room, publication_id=publication.publication_id)
    async with opened(client, first, timeout_s=timeout_s) as pusher:
        yield pusher


@contextlib.asynccontextmanager
async def opened(client: Client, first: Request, *, timeout_s: float | None = None) -> AsyncIterator[Pusher]:
    """A stream that begins with that message."""
    pusher = Pusher(client, timeout_s)
    try:
        await pusher.send(first)
        yield pusher
    finally:
        await pusher.aclose()


@contextlib.asynccontextmanager
async def taken_up(client: Client, publication: pb.Publication) -> AsyncIterator[Pusher]:
    """The stream after one that broke, which the server notices a moment later."""
    async with asyncio.timeout(DEADLINE_S), contextlib.AsyncExitStack() as stack:
        while True:
            pusher = await stack.enter_async_context(pushing(client, publication))
            await pusher.until(lambda pusher=pusher: bool(pusher.answers))  # type: ignore[misc]  # this one's
            if pusher.answers:
                break
            assert (await pusher.refused()).reason == "PUSH_IN_PROGRESS"
            await asyncio.sleep(0.1)
        stack = stack.pop_all()
    async with stack:
        yield pusher
