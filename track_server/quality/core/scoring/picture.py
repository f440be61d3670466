"""How a video looks: an index of 1 to 5 from bits per pixel, frame rate and delay. Pure.

It is no mean opinion score: nobody was asked, and what the picture shows is not looked at. The formula is that of
rtcscore (github.com/ggarber/rtcscore): 0.56 ln(bits per pixel) + 5.36, less what missing frames and delay take.
"""

import math
from typing import Final

CODEC_FACTORS: Final = {"vp9": 1.2, "h265": 1.2, "av1": 1.43}
"""What a bit is worth, against VP8 and H.264 (1.0): rtcscore's for VP9; H.265 as VP9, AV1 as the golden vectors."""

_BUFFER_WEIGHT: Final = 0.002


def picture_index(
    *,
    width: float,
    height: float,
    frames_per_second: float,
    expected_frames_per_second: float,
    bitrate_bps: float,
    codec_factor: float = 1.0,
    buffer_ms: float = 0.0,
    rtt_ms: float = 0.0,
) -> float:
    """The index, 1 to 5. ``width``, ``height``: above 0, in pixels, of what is to be shown."""
    if frames_per_second <= 0 or bitrate_bps <= 0 or width <= 0 or height <= 0:
        return 1.0
    bits = codec_factor * bitrate_bps / (width * height) / frames_per_second
    base = min(5.0, max(1.0, 0.56 * math.log(bits) + 5.36))
    missing = 1.9 * math.log(max(1.0, expected_frames_per_second / frames_per_second))
    return min(5.0, max(1.0, base - missing - _BUFFER_WEIGHT * (buffer_ms + rtt_ms / 2)))
