"""Pictures on their way into the SDK, and how bright they are."""

import math
import time
from typing import Final

import numpy as np
from livekit import rtc

_LOOK_S: Final = 0.2
"""A picture is looked at no more often than this, in seconds: at 5 a second it costs less than 0.01 % of a core."""
_PIXELS: Final = 1024
"""About so many pixels are looked at, all over the picture."""
_BLACK: Final = 16
_WHITE: Final = 235
"""Luma of black and white: ITU-R BT.601. What a caller sends beyond them counts as these."""


class Pictures:
    """A source of the SDK, fed with pictures of one size: I420, or NV12, whose luma plane is the same."""

    def __init__(
        self, width: int, height: int, kind: "rtc.VideoBufferType.ValueType" = rtc.VideoBufferType.I420
    ) -> None:
        self._width, self._height, self._kind = width, height, kind
        self._source = rtc.VideoSource(width, height)
        self._brightness = Brightness(width, height)

    def create_track(self, name: str) -> rtc.LocalVideoTrack:
        """The source's track; another one at each call."""
        return rtc.LocalVideoTrack.create_video_track(name, self._source)

    def show(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over a picture."""
        self._brightness.see(data, time.monotonic())
        self._source.capture_frame(rtc.VideoFrame(self._width, self._height, self._kind, data))

    def brightness(self) -> float | None:
        """See Brightness."""
        return self._brightness.take()

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


class Brightness:
    """Mean luma of pictures, 0 black to 1 white, of some pixels of some of them."""

    def __init__(self, width: int, height: int) -> None:
        self._luma = width * height
        # Without a divisor in common with the width the pixels lie in all columns, and not in a few.
        self._stride = max(1, self._luma // _PIXELS)
        while math.gcd(self._stride, width) > 1:
            self._stride += 1
        self._looked_s = 0.0
        self._sum = 0.0
        self._pictures = 0

    def see(self, data: bytes | bytearray | memoryview, now_s: float) -> None:
        """A picture, whose luma plane comes first, at ``now_s`` (monotonic)."""
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        luma = np.frombuffer(data, dtype=np.uint8, count=self._luma)[self._stride // 2 :: self._stride]
        self._sum += float(luma.mean())
        self._pictures += 1

    def take(self) -> float | None:
        """Of the pictures since the call before; None where there were none."""
        if not self._pictures:
            return None
        mean, self._sum, self._pictures = self._sum / self._pictures, 0.0, 0
        return min(1.0, max(0.0, (mean - _BLACK) / (_WHITE - _BLACK)))
