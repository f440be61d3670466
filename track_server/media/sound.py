"""Sound on its way into the SDK: channels, processing, pace."""

from typing import Final

from livekit import rtc

from track.v1.publication_pb2 import AudioOptions
from track_server.media.far_end import STEP_SAMPLES, FarEnd
from track_server.media.inputs.tone import SAMPLE_RATE
from track_server.media.processing import Processing

QUEUE_MS: Final = 200
_SAMPLE_BYTES: Final = 2


def channels_of(audio: AudioOptions) -> int:
    """Channels in which it is published."""
    return 2 if audio.stereo else 1


class Sound:
    """A source of the SDK, fed with 48 kHz signed 16-bit samples, channels interleaved.

    ``far_end``: what it may be an echo of. ``queue_ms``: length of the SDK's queue, which then sets the pace. With 0
    the caller does: what that queue was once late, because the process was held up for a moment, it stays (rtc 1.2.1).
    """

    def __init__(self, audio: AudioOptions, far_end: FarEnd, queue_ms: int = QUEUE_MS) -> None:
        self.channels = channels_of(audio)
        self._source = rtc.AudioSource(SAMPLE_RATE, self.channels, queue_ms)
        self._processing = Processing(audio, far_end)
        self._queued = queue_ms > 0
        # The SDK takes no part of 10 ms.
        self._step_bytes = STEP_SAMPLES * self.channels * _SAMPLE_BYTES
        self._rest = b""

    def create_track(self, name: str) -> rtc.LocalAudioTrack:
        """The source's track; another one at each call."""
        return rtc.LocalAudioTrack.create_audio_track(name, self._source)

    def process(self, audio: AudioOptions) -> None:
        """Have it processed so from now on. See Processing."""
        self._processing.want(audio)

    async def play(self, samples: bytes) -> None:
        """Hand over samples. Returns when the SDK has taken them; what is less than 10 ms waits for more."""
        samples = self._rest + samples
        whole = len(samples) - len(samples) % self._step_bytes
        # Processing takes 10 ms at a time, and so does a source without a queue. Else one frame is best, however long:
        # each is an event for all sources of the process.
        at_once = whole if self._queued and self._processing.idle else self._step_bytes
        for begin in range(0, whole, at_once or 1):
            part = samples[begin : begin + at_once]
            frame = rtc.AudioFrame(part, SAMPLE_RATE, self.channels, len(part) // self._step_bytes * STEP_SAMPLES)
            self._processing.process(frame)
            await self._source.capture_frame(frame)
        self._rest = samples[whole:]

    async def aclose(self) -> None:
        """Close the source. May be called twice."""
        self._processing.close()
        await self._source.aclose()
