"""What is done to sound before it is encoded: WebRTC's noise suppression, echo cancellation and gain control."""

import contextlib
from typing import Final

from livekit import rtc

from track.v1.publication_pb2 import AudioOptions
from track_server.media.far_end import STEP_SAMPLES, FarEnd, Listener
from track_server.media.inputs.tone import SAMPLE_RATE

_NAMES: Final = ("noise_suppression", "echo_cancellation", "auto_gain_control")


class Processing:
    """Does what ``audio`` asks for. ``far_end``: what it may be an echo of."""

    def __init__(self, audio: AudioOptions, far_end: FarEnd) -> None:
        self._held = contextlib.ExitStack()
        self._far_end = far_end
        self._module: rtc.AudioProcessingModule | None = None
        self._listener: Listener | None = None
        self._wanted = _wanted(audio)
        self._begin()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not any(self._wanted)

    def want(self, audio: AudioOptions) -> None:
        """Do this from now on; where that is otherwise, what was learnt of noise and echo is forgotten."""
        if self._wanted != _wanted(audio):
            self._wanted = _wanted(audio)
            self._held.close()
            self._begin()

    def process(self, frame: rtc.AudioFrame) -> None:
        """Change 10 ms of sound at 48 kHz in place. WebRTC takes no other length, and tells of none (rtc 1.2.1)."""
        if self._module is None:
            return
        if self._listener is not None:
            # It needs no hint at the delay between the two: WebRTC finds it, from 0 to 0.5 s.
            played = rtc.AudioFrame(self._listener.take(), SAMPLE_RATE, 1, STEP_SAMPLES)
            self._module.process_reverse_stream(played)
        self._module.process_stream(frame)

    def close(self) -> None:
        """Nothing more is done. May be called twice."""
        self._module = self._listener = None
        self._held.close()

    def _begin(self) -> None:
        noise, echo, gain = self._wanted
        self._listener = self._held.enter_context(self._far_end.listening()) if echo else None
        self._module = (
            None
            if self.idle
            else rtc.AudioProcessingModule(noise_suppression=noise, echo_cancellation=echo, auto_gain_control=gain)
        )


def _wanted(audio: AudioOptions) -> tuple[bool, bool, bool]:
    noise, echo, gain = (getattr(audio, name) for name in _NAMES)
    return noise, echo, gain
