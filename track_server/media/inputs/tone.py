"""A sine tone."""

from typing import Final

import numpy as np

SAMPLE_RATE: Final = 48_000
FRAME_SAMPLES: Final = SAMPLE_RATE // 100
"""Samples of a frame of 10 ms."""


class Tone:
    """A sine of `frequency_hz` at `level_dbfs` (0 is a full-scale sine), 48 kHz, mono, signed 16 bit, native order."""

    def __init__(self, frequency_hz: float, level_dbfs: float) -> None:
        self._step = 2 * np.pi * frequency_hz / SAMPLE_RATE
        self._amplitude = 32767 * 10 ** (level_dbfs / 20)
        self._offsets = np.arange(FRAME_SAMPLES) * self._step
        self._phase = 0.0

    def next_frame(self) -> bytes:
        """The next 10 ms, in phase with the frame before."""
        samples = np.sin(self._offsets + self._phase) * self._amplitude
        # Kept small: the phase of hours would lose precision.
        self._phase = (self._phase + FRAME_SAMPLES * self._step) % (2 * np.pi)
        frame: bytes = samples.round().astype(np.int16).tobytes()
        return frame
