"""A caller that pulls tracks, and what is in what it got."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import av
import grpc
import numpy as np
import numpy.typing as npt

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import participants
from tests.refusals import Refusal, read
from tests.track_process import Client
from track.v1 import pull_pb2 as pb
from track_server.durations import duration_of
from track_server.pulling.pulls import IDENTITY_PREFIX

DEADLINE_S: Final = 45.0

WAV = pb.PULL_CONTAINER_WAV
OGG = pb.PULL_CONTAINER_OGG
MATROSKA = pb.PULL_CONTAINER_MATROSKA
TRACK_ENDED = pb.PULL_END_REASON_TRACK_ENDED
MAX_DURATION = pb.PULL_END_REASON_MAX_DURATION
ROOM_CLOSED = pb.PULL_END_REASON_ROOM_CLOSED
FRAMES = pb.PullFrames()


@dataclass
class Pull:
    """A stream, and what it has told so far."""

    call: Any
    started: list[pb.PullStarted] = field(default_factory=list)
    media: list[pb.PullMediaResponse] = field(default_factory=list)
    """Chunks or frames."""
    stats: list[pb.PullStats] = field(default_factory=list)
    ended: pb.PullEnded | None = None
    order: list[str] = field(default_factory=list)

    async def until(self, condition: Callable[["Pull"], bool]) -> "Pull":
        """Reads until the condition holds. Fails where the stream ends before."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition(self):
                await self.read()
        return self

    async def read(self) -> None:
        """One message."""
        response = await self.call.read()
        assert response is not grpc.aio.EOF, "the stream has ended"
        kind = response.WhichOneof("event")
        self.order.append(kind)
        match kind:
            case "started":
                self.started.append(response.started)
            case "stats":
                self.stats.append(response.stats)
            case "ended":
                self.ended = response.ended
            case _:
                self.media.append(response)

    async def to_the_end(self) -> pb.PullEnded:
        """Reads to the end, which is in order."""
        await self.until(lambda _: self.ended is not None)
        assert self.ended is not None
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK
        return self.ended

    async def refused(self) -> Refusal:
        """Reads until the stream fails."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await self.read()
        except grpc.aio.AioRpcError as error:
            return read(error)

    @property
    def data(self) -> bytes:
        """The chunks, one after the other."""
        return b"".join(response.chunk.data for response in self.media)


@contextlib.asynccontextmanager
async def pulling(client: Client, room: str, *, seconds: float = 0, **fields: Any) -> AsyncIterator[Pull]:
    """A stream, ended with the block. ``seconds``: its `max_duration`, 0 for none."""
    request = pb.PullMediaRequest(room=room, **fields)
    if seconds:
        request.max_duration.CopyFrom(duration_of(seconds))
    call = client.PullMedia(request)
    try:
        yield Pull(call)
    finally:
        call.cancel()


async def pulled(client: Client, room: str, seconds: float, **fields: Any) -> Pull:
    """Pulls so many seconds to the end."""
    async with pulling(client, room, seconds=seconds, **fields) as pull:
        ended = await pull.to_the_end()
        assert ended.reason == MAX_DURATION
        assert pull.order[0] == "started"
        return pull


async def refusal_of(client: Client, room: str, **fields: Any) -> Refusal:
    """How a stream is refused that must not begin."""
    async with pulling(client, room, **fields) as pull:
        refused = await pull.refused()
        assert not pull.order
        return refused


async def nobody_hidden(livekit: LiveKitProcess, room: str) -> None:
    """Waits until no session that pulls is in the room."""
    async with asyncio.timeout(DEADLINE_S):
        while await hidden(livekit, room):
            await asyncio.sleep(0.05)


async def hidden(livekit: LiveKitProcess, room: str) -> set[str]:
    """Identities of the sessions that pull."""
    found = await participants(livekit, room, hidden=True)
    return {identity for identity in found if identity.startswith(IDENTITY_PREFIX)}


@dataclass
class Contents:
    """What LibAV reads of a file."""

    codecs: dict[str, str]
    seconds: dict[str, float]
    """By kind of stream: where its last frame ends."""
    declared_s: float | None
    pictures: list[av.VideoFrame]
    sound: npt.NDArray[np.float64]
    """-1 to 1, one row a channel."""


def contents(data: bytes) -> Contents:
    """Decodes a file."""
    pictures: list[av.VideoFrame] = []
    sounds: list[npt.NDArray[np.float64]] = []
    ends = {"video": 0.0, "audio": 0.0}
    with av.open(io.BytesIO(data), "r") as file:
        codecs = {str(stream.type): stream.codec_context.name for stream in file.streams}
        declared = file.duration / av.time_base if file.duration else None
        for frame in file.decode():
            assert frame.time is not None
            if isinstance(frame, av.VideoFrame):
                pictures.append(frame)
                ends["video"] = max(ends["video"], frame.time)
            elif isinstance(frame, av.AudioFrame):
                channels = frame.layout.nb_channels
                values = frame.to_ndarray()
                rows = values.reshape(-1, channels).T if not frame.format.is_planar else values
                sounds.append(rows / (32768 if rows.dtype == np.int16 else 1))
                ends["audio"] = max(ends["audio"], frame.time + frame.samples / frame.sample_rate)
    return Contents(codecs, ends, declared, pictures, np.concatenate(sounds, axis=1) if sounds else np.empty(0))
