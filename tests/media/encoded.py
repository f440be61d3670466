"""Pictures of the test pattern with numbers in their clock, raw and encoded."""

from fractions import Fraction
from typing import Final

import av
import numpy as np

from track_server.media.inputs.clock import read_clock
from track_server.media.inputs.pattern import TestPattern

WIDTH: Final = 320
HEIGHT: Final = 180
FPS: Final = 15
_ZERO_MS: Final = 10**12
_STEP_MS: Final = 1000

_ENCODERS: Final = {
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "10"}),
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}),
}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """The picture of that number as I420."""
    pattern = TestPattern(width, height)
    pattern.paint(_ZERO_MS + number * _STEP_MS)
    return bytes(pattern.buffer)


def number_in(luma: "np.typing.NDArray[np.uint8]") -> int | None:
    """The number of a picture; None where none can be read."""
    ms = read_clock(luma)
    return None if ms is None else (ms - _ZERO_MS) // _STEP_MS


def encoded(codec: str, count: int, keyframe_every: int = FPS, options: dict[str, str] | None = None) -> list[bytes]:
    """The first `count` pictures as access units: `vp8`, or `h264` in Annex B. Every so many is a keyframe."""
    name, usual = _ENCODERS[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
    context.bit_rate, context.gop_size = 800_000, keyframe_every
    context.options = usual | (options or {})
    units = []
    for number in range(count):
        raw = np.frombuffer(picture(number), dtype=np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
        frame = av.VideoFrame.from_ndarray(raw, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        frame.pict_type = av.video.frame.PictureType.I if number % keyframe_every == 0 else frame.pict_type
        units += [bytes(packet) for packet in context.encode(frame)]
    return units + [bytes(packet) for packet in context.encode(None)]
