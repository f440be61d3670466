"""Encoded video that the sides of a figure send alike."""

import asyncio
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Final

import av
import numpy as np

WIDTH: Final = 1280
HEIGHT: Final = 720
FPS: Final = 30
BITRATE_BPS: Final = 1_900_000
_COUNT: Final = 60


def access_units() -> list[tuple[bytes, bool]]:
    """Two seconds of VP8 in 720p30 with a keyframe each second, and whether each is one. The same at every call."""
    context = av.CodecContext.create("libvpx", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
    context.bit_rate, context.gop_size = BITRATE_BPS, FPS
    context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "keyint_min": str(FPS)}
    dice = np.random.default_rng(0)
    units = []
    for number in range(_COUNT):
        # Coarse noise: something to encode, as a camera gives.
        luma = dice.integers(60, 180, (HEIGHT // 16, WIDTH // 16), dtype=np.uint8)
        picture = np.full((HEIGHT * 3 // 2, WIDTH), 128, dtype=np.uint8)
        picture[:HEIGHT] = np.kron(luma, np.ones((16, 16), dtype=np.uint8))
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        units += [(bytes(packet), packet.is_keyframe) for packet in context.encode(frame)]
    return units + [(bytes(packet), packet.is_keyframe) for packet in context.encode(None)]


async def in_real_time(units: list[tuple[bytes, bool]]) -> AsyncIterator[tuple[int, bytes, bool]]:
    """The access units again and again, each at its time, with its number."""
    begun, number = time.monotonic(), 0
    while True:
        data, keyframe = units[number % len(units)]
        yield number, data, keyframe
        number += 1
        await asyncio.sleep(max(0.0, begun + number / FPS - time.monotonic()))
