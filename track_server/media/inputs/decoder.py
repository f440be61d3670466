"""Decodes one stream of a media file into pictures or sound of the wanted shape. Blocks: one thread owns a decoder."""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, Protocol

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from track_server import errors, mediafile
from track_server.media.inputs.tone import SAMPLE_RATE

AUDIO_CHUNK_SAMPLES: Final = SAMPLE_RATE // 50
"""Samples of a chunk of 20 ms."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A picture (I420, the decoder's size) or 20 ms of sound (48 kHz, signed 16 bit, channels interleaved; the last may
    be shorter).

    `position_s`: when it is due, in seconds after the beginning of the file. `duration_s`: how long it lasts.
    """

    position_s: float
    duration_s: float
    data: bytes


class Decoder(Protocol):
    """One stream of an open file. Raises MediaInvalid where the file breaks off or lies."""

    duration_s: float | None
    """Length of the file in seconds, the same for all its streams. None where the container does not tell."""

    def seek(self, position_s: float) -> None:
        """Go on at `position_s`, in seconds after the beginning of the file."""

    def next(self) -> Chunk | None:
        """The next chunk, or None at the end."""

    def close(self) -> None:
        """Close the file."""


class _FileDecoder:
    """What both kinds of stream have in common."""

    def __init__(self, media: mediafile.ResolvedMedia, kind: str) -> None:
        self._container: InputContainer = mediafile.open_media(media)
        streams = [stream for stream in self._container.streams if stream.type == kind]
        if not streams:
            self._container.close()
            raise errors.MediaInvalid("the media has no stream of the wanted type", field="file.type")
        self._stream = streams[0]
        duration, start = self._container.duration, self._container.start_time
        self.duration_s = duration / av.time_base if duration else None
        # Both streams of a file count from its common start, or they would not be in sync.
        self._start_s = start / av.time_base if start is not None and abs(start) < 2**62 else 0.0
        self._from_s = 0.0
        self._chunks: Iterator[Chunk] = self._decode()

    def _decode(self) -> Iterator[Chunk]:
        raise NotImplementedError

    def seek(self, position_s: float) -> None:
        try:
            self._container.seek(int((position_s + self._start_s) * av.time_base))
        except (av.error.FFmpegError, OSError) as error:
            # Where one cannot seek forward, one decodes and throws away; back to the start there is no other way.
            if position_s <= 0:
                raise errors.MediaInvalid(
                    "the media cannot be played again: it does not seek", field="file.loop"
                ) from error
        self._from_s = position_s
        self._chunks = self._decode()

    def next(self) -> Chunk | None:
        try:
            return next(self._chunks, None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise errors.MediaInvalid("the media broke off, or cannot be decoded", field="file.uri") from error

    def close(self) -> None:
        self._container.close()


class VideoDecoder(_FileDecoder):
    """Pictures of `width` by `height` pixels, at most `frames_per_second` of them; rotation is not applied."""

    def __init__(self, media: mediafile.ResolvedMedia, width: int, height: int, frames_per_second: float) -> None:
        self._width, self._height = width, height
        self._interval_s = 1 / frames_per_second
        super().__init__(media, "video")

    def _decode(self) -> Iterator[Chunk]:
        due_s, first = self._from_s, True
        for frame in self._container.decode(self._stream):
            assert isinstance(frame, VideoFrame)
            position_s = (frame.time if frame.time is not None else due_s + self._start_s) - self._start_s
            # A tenth of an interval early is on time: the rates of file and track seldom fit to the millisecond.
            if position_s < due_s - (0 if first else self._interval_s / 10):
                continue
            due_s, first = max(due_s + self._interval_s, position_s + self._interval_s / 2), False
            picture = frame.reformat(self._width, self._height, "yuv420p", interpolation=Interpolation.BILINEAR)
            yield Chunk(position_s, self._interval_s, picture.to_ndarray().tobytes())


class AudioDecoder(_FileDecoder):
    """Sound at 48 kHz, in chunks of 20 ms, mixed to one channel or two."""

    def __init__(self, media: mediafile.ResolvedMedia, channels: int = 1) -> None:
        self._layout = "stereo" if channels == 2 else "mono"
        self._sample_bytes = 2 * channels
        super().__init__(media, "audio")

    def _decode(self) -> Iterator[Chunk]:
        resampler = AudioResampler("s16", self._layout, SAMPLE_RATE, AUDIO_CHUNK_SAMPLES)
        for frame in self._container.decode(self._stream):
            assert isinstance(frame, AudioFrame)
            # The resampler refuses frames whose times go backwards or are missing, which damaged files have.
            if frame.pts is None:
                frame.pts, frame.time_base = 0, Fraction(1, frame.sample_rate)
            yield from self._within(resampler.resample(frame))
        yield from self._within(resampler.resample(None))

    def _within(self, frames: list[AudioFrame]) -> Iterator[Chunk]:
        """To the sample: codecs pad what they encode, and with every round of a loop it would be later by that."""
        for frame in frames:
            position_s = (frame.time or 0.0) - self._start_s
            skipped = max(0, round((self._from_s - position_s) * SAMPLE_RATE))
            end = frame.samples
            if self.duration_s is not None:
                end = min(end, round((self.duration_s - position_s) * SAMPLE_RATE))
            if skipped < end:
                samples = frame.to_ndarray().tobytes()[skipped * self._sample_bytes : end * self._sample_bytes]
                yield Chunk(position_s + skipped / SAMPLE_RATE, (end - skipped) / SAMPLE_RATE, samples)
