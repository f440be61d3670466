"""A moving picture that takes the bits of a camera: texture that glides there and back, and a sensor's noise."""

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

CYCLE: Final = 120
"""Pictures until it begins again."""
_BLOCK: Final = 4
_ROOM: Final = 256
_NOISES: Final = 7
"""Pictures of noise, in turn."""


class Film:
    """Pictures of that size, each a turn of the same cycle."""

    def __init__(self, width: int, height: int) -> None:
        shape = (height + _ROOM) // _BLOCK, (width + _ROOM) // _BLOCK
        texture = np.random.default_rng(7).integers(64, 192, shape, np.uint8)
        self._texture: NDArray[np.uint8] = texture.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
        draw = np.random.default_rng(11)
        self._noise = (
            draw.integers(0, 48, (_NOISES, height // 2, width // 2), np.uint8).repeat(2, axis=1).repeat(2, axis=2)
        )
        self._width, self._height = width, height
        self._grey = np.full(width * height // 2, 128, np.uint8)

    def picture(self, number: int) -> NDArray[np.uint8]:
        """I420 of that number, its three planes in a row."""
        step = abs(number % CYCLE - CYCLE // 2)
        luma = self._texture[step : step + self._height, 2 * step : 2 * step + self._width]
        return np.concatenate([(luma + self._noise[number % _NOISES]).ravel(), self._grey])


def write(path: Path, width: int, height: int, fps: int) -> None:
    """One cycle of it as a file that a hosted publication can play in a loop."""
    film = Film(width, height)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=fps, options={"q:v": "3"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(CYCLE):
            planes = film.picture(number).reshape(height * 3 // 2, width)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
