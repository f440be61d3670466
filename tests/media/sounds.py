"""Sounds that tests publish, and what is heard of them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.media.clips import RATE
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2

Wave = npt.NDArray[np.float64]


def sine(hz: float, seconds: float) -> Wave:
    """A sine at -12 dB of full scale."""
    times = np.arange(int(seconds * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * hz * times) * 0.25)


def heard_of(uri: str, **audio: Any) -> pb.PublicationSpec:
    """That file over and over, with those options."""
    file = pb.FileInput(uri=uri, type=track_pb2.TRACK_TYPE_AUDIO, loop=True)
    return pb.PublicationSpec(file=file, audio=pb.AudioOptions(dtx=False, **audio))


def level_db(wave: Wave) -> float:
    """Root mean square, relative to full scale."""
    return float(20 * np.log10(np.sqrt((wave**2).mean()) + 1e-9))


def strength_db(wave: Wave, hz: float) -> float:
    """Strength of one frequency at 48 kHz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) / len(wave)
    middle = round(hz * len(wave) / 48_000)
    return float(20 * np.log10(spectrum[middle - 3 : middle + 4].max() + 1e-9))


def pitch_hz(sound: Any) -> float:
    """The strongest frequency of a sound at 48 kHz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * 48_000 / len(sound))
