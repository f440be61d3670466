"""Containers that can be cut off anywhere: WAV, Ogg with Opus, Matroska with VP8 and Opus. All of it blocks."""

import struct
from fractions import Fraction
from typing import Final, Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from track.v1.pull_pb2 import PullContainer
from track_server.media.inputs.tone import SAMPLE_RATE
from track_server.media.pulling.pictures import Picture, Scaler

_MILLISECOND: Final = Fraction(1, 1000)
_LIVE_US: Final = "200000"
"""What is muxed is sent at least so often: the time of a page of Ogg, of a cluster of Matroska (there in milliseconds),
and how long one stream waits for the other."""
_BITS_PER_PIXEL: Final = 3
"""Of video, a second: 2.8 Mbit/s for 1280x720."""
_LEAST_VIDEO_BPS: Final = 200_000
_SOUND_BPS: Final = 64_000
"""Of Opus, for each channel."""
_OPUS_SAMPLES: Final = SAMPLE_RATE // 50
"""Of its frames, of 20 ms."""
_KEYFRAME_FRAMES: Final = 60
_UNKNOWN_LENGTH: Final = 0xFFFFFFFF

MIME_TYPES: Final = {
    PullContainer.PULL_CONTAINER_WAV: "audio/wav",
    PullContainer.PULL_CONTAINER_OGG: "audio/ogg",
    PullContainer.PULL_CONTAINER_MATROSKA: "video/x-matroska",
}


class Container(Protocol):
    """Takes frames in order, and gives the bytes that they make. Several frames may make none, or many of one."""

    def picture(self, picture: Picture) -> bytes:
        """Of a picture."""

    def sound(self, samples: bytes, position_us: int, missing: int) -> bytes:
        """Of sound: signed 16 bit, channels interleaved. ``missing``: samples of silence before."""

    def close(self) -> bytes:
        """The end. Nothing comes after it."""


class Wav:
    """PCM behind a header of unknown length, as for any stream."""

    def __init__(self, channels: int) -> None:
        self._block = 2 * channels
        rate = SAMPLE_RATE * self._block
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, SAMPLE_RATE, rate, self._block, 16)
        riff = struct.pack("<4sI4s", b"RIFF", _UNKNOWN_LENGTH, b"WAVE")
        self._header = riff + form + struct.pack("<4sI", b"data", _UNKNOWN_LENGTH)

    def picture(self, picture: Picture) -> bytes:
        """See Container: it has none."""
        return b""

    def sound(self, samples: bytes, position_us: int, missing: int) -> bytes:
        """See Container."""
        header, self._header = self._header, b""
        return header + bytes(missing * self._block) + samples

    def close(self) -> bytes:
        """See Container."""
        header, self._header = self._header, b""
        return header


class Muxed:
    """What FFmpeg muxes. ``size``: of the pictures, even; None for sound alone. ``channels``: 0 for pictures alone.

    ``duration_us``: how long it is to become, for the header of Matroska; 0 where that is not known.
    """

    def __init__(
        self, kind: PullContainer.ValueType, channels: int, size: tuple[int, int] | None, duration_us: int
    ) -> None:
        self._written = _Written()
        ogg = kind == PullContainer.PULL_CONTAINER_OGG
        options = {"page_duration": _LIVE_US} if ogg else {"cluster_time_limit": "200"}
        self._output = av.open(
            self._written,
            "w",
            format="ogg" if ogg else "matroska",
            options={"flush_packets": "1", "max_interleave_delta": _LIVE_US, **options},
        )
        if duration_us:
            # Where the muxer looks for it that cannot go back to the header.
            self._output.metadata["DURATION"] = _clock(duration_us)
        self._scaler = Scaler()
        self._channels = channels
        self._layout = "stereo" if channels == 2 else "mono"
        self._video = self._add_video(size) if size is not None else None
        self._audio = self._add_audio(channels) if channels else None

    def picture(self, picture: Picture) -> bytes:
        """See Container."""
        assert self._video is not None
        frame = self._scaler.frame(picture, (self._video.width, self._video.height))
        frame.pts, frame.time_base = picture.position_us // 1000, _MILLISECOND
        self._output.mux(self._video.encode(frame))
        return self._written.take()

    def sound(self, samples: bytes, position_us: int, missing: int) -> bytes:
        """See Container: what is missing is told by the timestamps."""
        assert self._audio is not None
        piece = _OPUS_SAMPLES * 2 * self._channels
        for begin in range(0, len(samples), piece):
            place = position_us * SAMPLE_RATE // 1_000_000 + begin // (2 * self._channels)
            self._encode(self._audio, samples[begin : begin + piece], place)
        return self._written.take()

    def _encode(self, audio: AudioStream, samples: bytes, place: int) -> None:
        """A frame of Opus. ``place``: its first sample's."""
        frame = AudioFrame.from_ndarray(
            np.frombuffer(samples, dtype=np.int16).reshape(1, -1), format="s16", layout=self._layout
        )
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = place, Fraction(1, SAMPLE_RATE)
        self._output.mux(audio.encode(frame))

    def close(self) -> bytes:
        """See Container."""
        for stream in (self._video, self._audio):
            if stream is not None:
                self._output.mux(stream.encode(None))
        self._output.close()
        return self._written.take()

    def _add_video(self, size: tuple[int, int]) -> VideoStream:
        stream = self._output.add_stream("libvpx", rate=30)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _MILLISECOND
        stream.codec_context.gop_size = _KEYFRAME_FRAMES
        stream.bit_rate = max(_LEAST_VIDEO_BPS, size[0] * size[1] * _BITS_PER_PIXEL)
        # As WebRTC encodes: each picture at once, and fast.
        stream.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}
        stream.thread_count = 1
        return stream

    def _add_audio(self, channels: int) -> AudioStream:
        stream = self._output.add_stream("libopus", rate=SAMPLE_RATE)
        stream.layout = self._layout
        stream.bit_rate = _SOUND_BPS * channels
        return stream


class _Written:
    """A file that cannot be read or sought, which hands over what was written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """As of a file."""
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def create_container(
    kind: PullContainer.ValueType, channels: int, size: tuple[int, int] | None, duration_us: int
) -> Container:
    """An empty one. See Muxed."""
    if kind == PullContainer.PULL_CONTAINER_WAV:
        return Wav(channels)
    return Muxed(kind, channels, size, duration_us)


def _clock(duration_us: int) -> str:
    """As FFmpeg reads it: hours, minutes, seconds."""
    seconds, microseconds = divmod(duration_us, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{microseconds:06}"
