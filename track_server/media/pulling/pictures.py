"""Pictures as they are received, upright and in even sizes. Blocks: work of some milliseconds."""

from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

_Plane = np.ndarray[tuple[int, int], np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Picture:
    """I420 without padding. ``rotation``: degrees by which it must be turned clockwise to be upright, in quarters."""

    data: bytes | bytearray | memoryview
    width: int
    height: int
    rotation: int
    position_us: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height once it is upright, made even."""
        width, height = (self.height, self.width) if self.rotation % 180 else (self.width, self.height)
        return width & ~1, height & ~1


def plain(picture: Picture) -> bool:
    """Whether its bytes are those of `upright`."""
    return picture.rotation == 0 and not (picture.width | picture.height) & 1


def upright(picture: Picture) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Its planes, one below the other, as `VideoFrame.from_ndarray` takes them: turned, and cut to even sizes."""
    flat = np.frombuffer(picture.data, dtype=np.uint8)
    if plain(picture):
        return flat.reshape(picture.height * 3 // 2, picture.width)
    width, height = picture.size
    turned = [np.rot90(plane, -(picture.rotation // 90)) for plane in _planes(flat, picture.width, picture.height)]
    luma, blue, red = turned
    chroma = [plane[: height // 2, : width // 2].reshape(-1) for plane in (blue, red)]
    return np.concatenate([luma[:height, :width].reshape(-1), *chroma]).reshape(height * 3 // 2, width)


class Scaler:
    """Brings pictures to one size; those that have it already cost nothing."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def frame(self, picture: Picture, size: tuple[int, int]) -> VideoFrame:
        """The picture in that size."""
        frame = VideoFrame.from_ndarray(upright(picture), format="yuv420p")
        if (frame.width, frame.height) == size:
            return frame
        return self._reformatter.reformat(frame, *size, format="yuv420p", interpolation=Interpolation.BILINEAR)


def _planes(flat: np.ndarray[tuple[int], np.dtype[np.uint8]], width: int, height: int) -> list[_Plane]:
    across, down = (width + 1) // 2, (height + 1) // 2
    luma, chroma = width * height, across * down
    return [
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(down, across),
        flat[luma + chroma : luma + 2 * chroma].reshape(down, across),
    ]
