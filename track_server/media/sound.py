"""Sound on its way into the SDK: channels, processing, pace."""

from typing import Final

from livekit import rtc

from track.v1.publication_pb2 import AudioOptions
from track_server.media.inputs.tone import SAMPLE_RATE

QUEUE_MS: Final = 200
_SAMPLE_BYTES: Final = 2
_STEP_SAMPLES: Final = SAMPLE_RATE // 100
"""Samples of 10 ms: the SDK takes no part of them."""


def channels_of(audio: AudioOptions) -> int:
    """Channels in which it is published."""
    return 2 if audio.stereo else 1


class Sound:
    """A source of the SDK, fed with 48 kHz signed 16-bit samples, channels interleaved.

    ``queue_ms``: length of the SDK's queue, which then sets the pace. With 0 the caller does: what that queue was once
    late, because the process was held up for a moment, it stays (rtc 1.2.1).
    """

    def __init__(self, audio: AudioOptions, queue_ms: int = QUEUE_MS) -> None:
        self.channels = channels_of(audio)
        self._source = rtc.AudioSource(SAMPLE_RATE, self.channels, queue_ms)
        self._processed = (audio.noise_suppression, audio.auto_gain_control)
        self._processing = _processing(audio)
        self._queued = queue_ms > 0
        self._step_bytes = _STEP_SAMPLES * self.channels * _SAMPLE_BYTES
        self._rest = b""

    def create_track(self, name: str) -> rtc.LocalAudioTrack:
        """The source's track; another one at each call."""
        return rtc.LocalAudioTrack.create_audio_track(name, self._source)

    def process(self, audio: AudioOptions) -> None:
        """Have it processed so from now on; where that is otherwise, what was learnt of the noise is forgotten."""
        wanted = (audio.noise_suppression, audio.auto_gain_control)
        if wanted != self._processed:
            self._processed, self._processing = wanted, _processing(audio)

    async def play(self, samples: bytes) -> None:
        """Hand over samples. Returns when the SDK has taken them; what is less than 10 ms waits for more."""
        samples = self._rest + samples
        whole = len(samples) - len(samples) % self._step_bytes
        # Processing takes 10 ms at a time (what it does to longer frames is wrong, without an error), and so does a
        # source without a queue. Else one frame is best, however long: each is an event for all sources of the process.
        at_once = whole if self._queued and self._processing is None else self._step_bytes
        for begin in range(0, whole, at_once or 1):
            part = samples[begin : begin + at_once]
            frame = rtc.AudioFrame(part, SAMPLE_RATE, self.channels, len(part) // self._step_bytes * _STEP_SAMPLES)
            if self._processing is not None:
                self._processing.process_stream(frame)
            await self._source.capture_frame(frame)
        self._rest = samples[whole:]

    async def aclose(self) -> None:
        """Close the source."""
        self._processing = None
        await self._source.aclose()


def _processing(audio: AudioOptions) -> rtc.AudioProcessingModule | None:
    if not (audio.noise_suppression or audio.auto_gain_control):
        return None
    return rtc.AudioProcessingModule(
        noise_suppression=audio.noise_suppression, auto_gain_control=audio.auto_gain_control
    )
