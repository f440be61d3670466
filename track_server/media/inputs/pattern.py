"""The video test pattern: colour bars, a white bar that moves across them, and a clock."""

import time
from typing import Final

import numpy as np
import numpy.typing as npt

from track_server.media.inputs.clock import WHITE, Clock

# 75 % colour bars, white to blue, as Y, U, V in BT.601 video range (ITU-R BT.801).
_BARS: Final = (
    (180, 128, 128), (162, 44, 142), (131, 156, 44), (112, 72, 58),
    (84, 184, 198), (65, 100, 212), (35, 212, 114), (16, 128, 128),
)  # fmt: skip
_CROSSING_MS: Final = 4000
"""The moving bar crosses the picture in so many milliseconds."""


class TestPattern:
    """Pictures of one size, `width` by `height` pixels, both even.

    `buffer` is the picture, I420 and contiguous; it is the same memory for every picture, because painting only what
    moved costs a twentieth of painting it all.
    """

    __test__ = False  # not a test, pytest

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.buffer = bytearray(width * height * 3 // 2)
        picture = np.frombuffer(self.buffer, dtype=np.uint8)
        luma_size, chroma_size = width * height, width * height // 4
        self._planes = (
            picture[:luma_size].reshape(height, width),
            picture[luma_size : luma_size + chroma_size].reshape(height // 2, width // 2),
            picture[luma_size + chroma_size :].reshape(height // 2, width // 2),
        )
        self._clock = Clock(width, height)
        for index, plane in enumerate(self._planes):
            plane[:] = _bars(index, plane.shape[1])
        for rows, columns in self._clock.areas:  # black and white, so without colour
            for plane in self._planes[1:]:
                plane[rows.start // 2 : (rows.stop + 1) // 2, columns.start // 2 : (columns.stop + 1) // 2] = 128
        self._background = tuple(plane.copy() for plane in self._planes)
        self._bar_width = max(2, width // 40 // 2 * 2)
        self._bar_left = 0

    def paint(self, ms: int) -> None:
        """Paint the picture of the moment `ms`, milliseconds since 1970 UTC."""
        self._move_bar(ms % _CROSSING_MS * (self.width - self._bar_width) // _CROSSING_MS // 2 * 2)
        self._clock.draw(self._planes[0], ms)

    def paint_now(self) -> None:
        """Paint the picture of this moment."""
        self.paint(time.time_ns() // 1_000_000)

    def _move_bar(self, left: int) -> None:
        for plane, background, value in zip(self._planes, self._background, (WHITE, 128, 128), strict=True):
            shrink = self.width // plane.shape[1]
            old, new, width = self._bar_left // shrink, left // shrink, self._bar_width // shrink
            plane[:, old : old + width] = background[:, old : old + width]
            plane[:, new : new + width] = value
        self._bar_left = left


def _bars(plane: int, width: int) -> npt.NDArray[np.uint8]:
    values = np.array([bar[plane] for bar in _BARS], dtype=np.uint8)
    line: npt.NDArray[np.uint8] = values[np.arange(width) * len(_BARS) // width]
    return line
