"""The peer of PullMedia: tracks received with LiveKit's official SDK alone, in one process, and made into the same."""

import asyncio
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
import uvloop
from livekit import rtc

from bench.sdk_peer import SdkPeer, obeying

RATE: Final = 48_000
PIECE_MS: Final = 100


class Peer(SdkPeer):
    """One participant, which publishes a tone, or receives tracks."""

    async def sound(self, url: str, token: str) -> str:
        """Joins, and publishes a tone; the SID of the track."""
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
        source = rtc.AudioSource(RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("tone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        publication = await self._room.local_participant.publish_track(track, options)
        self._tasks.append(asyncio.create_task(_play(source)))
        return publication.sid

    async def receive(self, url: str, token: str, sids: list[str], kind: str) -> None:
        """Joins, subscribes, and takes frames as they come: `matroska`, `frames` or `sound`."""

        def subscribed(track: rtc.Track, *_: Any) -> None:
            self._tasks.append(asyncio.create_task(getattr(self, f"_{kind}")(track)))

        self._room.on("track_subscribed", subscribed)
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
        for participant in self._room.remote_participants.values():
            for publication in participant.track_publications.values():
                if publication.sid in sids:
                    publication.set_subscribed(True)

    async def _frames(self, track: rtc.RemoteVideoTrack) -> None:
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.I420):
            assert len(bytes(event.frame.data)) == event.frame.width * event.frame.height * 3 // 2
            self._taken += 1

    async def _sound(self, track: rtc.RemoteAudioTrack) -> None:
        file = bytearray()
        async for event in rtc.AudioStream(track, frame_size_ms=PIECE_MS):
            file += event.frame.data.cast("b")
            self._taken += 1

    async def _matroska(self, track: rtc.RemoteVideoTrack) -> None:
        file: _File | None = None
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.I420):
            file = file or _File(event.frame.width, event.frame.height)
            await asyncio.to_thread(file.add, event)
            self._taken += 1

    def commands(self) -> dict[str, Any]:
        """See SdkPeer."""
        return {"sound": self.sound, "receive": self.receive}


class _File:
    """Matroska with VP8, encoded as PullMedia encodes it."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._written = bytearray()
        self._output = av.open(self, "w", format="matroska", options={"cluster_time_limit": "200"})
        stream = self._output.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 60
        stream.bit_rate = width * height * 3
        stream.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}
        stream.thread_count = 1
        self._stream = stream
        self._begin_us = -1

    def write(self, data: bytes) -> int:
        """As of a file."""
        self._written = bytearray(data)
        return len(data)

    def add(self, event: rtc.VideoFrameEvent) -> None:
        """A picture."""
        width, height = self._size
        if self._begin_us < 0:
            self._begin_us = event.timestamp_us
        planes = np.frombuffer(event.frame.data, np.uint8).reshape(height * 3 // 2, width)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = (event.timestamp_us - self._begin_us) // 1000, Fraction(1, 1000)
        self._output.mux(self._stream.encode(frame))


async def _play(source: rtc.AudioSource) -> None:
    samples = np.sin(2 * np.pi * 440 * np.arange(RATE // 100) / RATE) * 8000
    data = samples.astype("<i2").tobytes()
    while True:
        await source.capture_frame(rtc.AudioFrame(data, RATE, 1, RATE // 100))


if __name__ == "__main__":
    uvloop.run(obeying(Peer))
