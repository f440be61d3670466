"""A sine tone."""

from typing import Final

import numpy as np

SAMPLE_RATE: Final = 48_000
FRAME_SAMPLES: Final = SAMPLE_RATE // 20
"""Samples of a frame of 50 ms: each frame is an event of the SDK, of which every source in the process hears."""


class Tone:
    """A sine of `frequency_hz` at `level_dbfs` (0 is a full-scale sine), 48 kHz, signed 16 bit, native order.

    It is the same in all `channels`, which are interleaved.
    """

    def __init__(self, frequency_hz: float, level_dbfs: float, channels: int = 1) -> None:
        self._channels = channels
        self._phase = 0.0
        self.change(frequency_hz, level_dbfs)

    def change(self, frequency_hz: float, level_dbfs: float) -> None:
        """What the next frames are, in phase with those before."""
        self._step = 2 * np.pi * frequency_hz / SAMPLE_RATE
        self._amplitude = 32767 * 10 ** (level_dbfs / 20)
        self._offsets = np.arange(FRAME_SAMPLES) * self._step

    def next_frame(self) -> bytes:
        """The next 50 ms, in phase with the frame before."""
        samples = np.sin(self._offsets + self._phase) * self._amplitude
        # Kept small: the phase of hours would lose precision.
        self._phase = (self._phase + FRAME_SAMPLES * self._step) % (2 * np.pi)
        frame: bytes = np.repeat(samples.round().astype(np.int16), self._channels).tobytes()
        return frame
