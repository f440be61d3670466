"""A media file of the demo's own: a ball that bounces over a sliding sky, and a melody."""

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt

FILE_NAME: Final = "film.mp4"
WIDTH: Final = 320
HEIGHT: Final = 180
FRAMES_PER_SECOND: Final = 15
SECONDS: Final = 8
"""Long enough to see where it begins again, and made in half a second."""
_RATE: Final = 48_000
_NOTES_HZ: Final = (262, 330, 392, 523, 392, 330, 294, 349, 440, 587, 440, 349, 247, 294, 392, 494)
_RADIUS: Final = 18


def make_film(folder: Path) -> Path:
    """Write the file (MP4, H.264 and AAC) into ``folder``. Blocks for about half a second."""
    path = folder / FILE_NAME
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"preset": "veryfast", "crf": "23"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=_RATE, layout="mono")
        per_frame = _RATE // FRAMES_PER_SECOND
        melody = _melody()
        for number in range(SECONDS * FRAMES_PER_SECOND):
            picture = av.VideoFrame.from_ndarray(_picture(number / FRAMES_PER_SECOND), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FRAMES_PER_SECOND)
            container.mux(video.encode(picture))
            samples = melody[number * per_frame : (number + 1) * per_frame]
            sound = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = _RATE, number * per_frame, Fraction(1, _RATE)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def _picture(time_s: float) -> npt.NDArray[np.uint8]:
    """RGB, height by width by 3."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    slide = np.sin((columns / WIDTH + time_s / SECONDS) * 2 * np.pi)
    picture = np.stack(
        [60 + 50 * slide + rows * 0.6, 90 + 40 * slide + rows * 0.2, 190 - rows * 0.6 + 20 * slide], axis=-1
    ).clip(0, 255)
    # Twice across and eight bounces in one run, so that the end meets the beginning.
    across = abs((time_s * 2 / SECONDS * 2) % 2 - 1)
    height = abs(np.sin(time_s * np.pi))
    x = _RADIUS + across * (WIDTH - 2 * _RADIUS)
    y = HEIGHT - _RADIUS - height * (HEIGHT - 3 * _RADIUS)
    picture[(columns - x) ** 2 + (rows - y) ** 2 < _RADIUS**2] = (255, 210, 60)
    return picture.astype(np.uint8)


def _melody() -> npt.NDArray[np.int16]:
    """All of the sound: 16 notes that fade, mono, signed 16 bit."""
    length = SECONDS * _RATE // len(_NOTES_HZ)
    time_s = np.arange(length) / _RATE
    envelope = np.minimum(1, time_s * 100) * np.exp(-3 * time_s)
    notes = [np.sin(2 * np.pi * note * time_s) * envelope for note in _NOTES_HZ]
    samples: npt.NDArray[np.int16] = (np.concatenate(notes) * 8000).astype(np.int16)
    return samples
