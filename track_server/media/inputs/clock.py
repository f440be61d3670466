"""The clock in the test pattern: a row of 64 squares across the top of the picture, and the time of day as text.

The squares are the milliseconds since 1970 UTC in binary, most significant bit first, white is 1. A square is 1/64 of
the width, so any simulcast layer carries the same row at its own scale.
"""

import time
from typing import Final

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8]

BITS: Final = 64
BLACK: Final = 16
"""Luma of black, BT.601 video range."""
WHITE: Final = 235
"""Luma of white, BT.601 video range."""

# A square counts as read only if it is clearly dark or clearly light.
_DARK: Final = 16 + (235 - 16) * 0.42
_LIGHT: Final = 16 + (235 - 16) * 0.58
# 2001 to 2286: a picture that is no test pattern seldom shows such a time.
_PLAUSIBLE_MS: Final = range(10**12, 10**13)

_FONT: Final = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00010 00100 01000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    ":": "00000 00100 00100 00000 00100 00100 00000",
    ".": "00000 00000 00000 00000 00000 00110 00110",
}
_TEXT_LENGTH: Final = len("HH:MM:SS.mmm")


class Clock:
    """Draws the time into the luma plane of pictures of one size; text and squares only where they fit."""

    def __init__(self, width: int, height: int) -> None:
        self._square_height = min(row_height(width), height)
        self._bit_of_column = (np.arange(width) * BITS // width) if width >= BITS else np.empty(0, np.int64)
        scale = min(width // (9 * _TEXT_LENGTH), height // 24)
        self._glyphs = {char: _glyph(rows, scale) for char, rows in _FONT.items()} if scale else {}
        top = (height - 7 * scale) // 2
        left = (width - 6 * scale * _TEXT_LENGTH) // 2
        squares = (slice(0, self._square_height), slice(0, width if self._bit_of_column.size else 0))
        text = (slice(top, top + 7 * scale), slice(left, left + 6 * scale * _TEXT_LENGTH))
        self.areas: Final = (squares, text)
        """What it draws over, as slices of the luma plane."""

    def draw(self, luma: Luma, ms: int) -> None:
        """Draw `ms` (milliseconds since 1970 UTC) into `luma`, height by width."""
        if self._bit_of_column.size:
            bits = (ms >> np.arange(BITS - 1, -1, -1, dtype=np.uint64).astype(np.int64)) & 1
            luma[: self._square_height] = np.where(bits, WHITE, BLACK).astype(np.uint8)[self._bit_of_column]
        if self._glyphs:
            text = f"{time.strftime('%H:%M:%S', time.gmtime(ms // 1000))}.{ms % 1000:03d}"
            picture = np.concatenate([self._glyphs[char] for char in text], axis=1)
            luma[self.areas[1]] = picture


def read_clock(luma: Luma) -> int | None:
    """Read the row of squares: milliseconds since 1970 UTC, or None where none can be read.

    `luma` is the luma plane, height by width, or a whole I420 picture as (height * 3 / 2) by width; of the test pattern
    at any scale down to 2 pixels a square (128 wide).
    """
    height, width = luma.shape
    if width < 2 * BITS or height < row_height(width):
        return None
    # The middle half of the row's height, and of each square's width: edges are blurred by scaling and coding.
    row = row_height(width)
    lines = luma[row // 4 : max(row // 4 + 1, row - row // 4)].mean(axis=0)
    edges = np.arange(BITS + 1) * width / BITS
    inset = (edges[1] - edges[0]) / 4
    sums = np.concatenate(([0.0], np.cumsum(lines)))
    begin, end = np.ceil(edges[:-1] + inset - 0.5).astype(int), np.floor(edges[1:] - inset + 0.5).astype(int)
    end = np.maximum(end, begin + 1)
    means = (sums[end] - sums[begin]) / (end - begin)
    if bool(((means > _DARK) & (means < _LIGHT)).any()):
        return None
    ms = int("".join("1" if mean >= _LIGHT else "0" for mean in means), 2)
    return ms if ms in _PLAUSIBLE_MS else None


def row_height(width: int) -> int:
    """Height of the row of squares in pixels, in a picture `width` wide."""
    return max(1, width // BITS)


def _glyph(rows: str, scale: int) -> Luma:
    bits = np.array([[0, *(int(bit) for bit in row)] for row in rows.split()], dtype=np.uint8)
    big: Luma = np.kron(bits, np.ones((scale, scale), dtype=np.uint8)) * np.uint8(WHITE - BLACK) + np.uint8(BLACK)
    return big
