"""What media costs of a budget where its publisher declares nothing, in bits per second of payload. Pure."""

import math
from itertools import pairwise
from typing import Final

from track.v1.track_pb2 import Track

# livekit-client 2.23.0, src/room/track/options.ts, VideoPresets h90 to h2160: pixels, bits per second, frames per
# second.
_PRESETS: Final = (
    (160 * 90, 90_000, 20),
    (320 * 180, 160_000, 20),
    (384 * 216, 180_000, 20),
    (640 * 360, 450_000, 20),
    (960 * 540, 800_000, 25),
    (1280 * 720, 1_700_000, 30),
    (1920 * 1080, 3_000_000, 30),
    (2560 * 1440, 5_000_000, 30),
    (3840 * 2160, 8_000_000, 30),
)
# The same file, AudioPresets: music, which is its default, and musicStereo.
_MONO_BPS: Final = 48_000
_STEREO_BPS: Final = 64_000
# LiveKit's clients put the packet before into each packet once more (RED, RFC 2198).
_RED: Final = 2


def estimate_bps(width: int, height: int, frames_per_second: float | None = None) -> int:
    """What a layer of that size, in pixels, takes.

    The bitrate of livekit-client's presets, in a straight line of its logarithm over that of the pixels between two of
    them, and in proportion to the pixels beyond them. A rate below the preset's takes as much less; a higher one, or
    None, no more: the presets' bitrate is a publisher's limit at any rate. At least 1.
    """
    pixels = max(1, width * height)
    bitrate, rate = _at(pixels)
    if frames_per_second is not None:
        bitrate *= min(1.0, frames_per_second / rate)
    return max(1, round(bitrate))


def sound_bps(track: Track) -> int:
    """What an audio track takes, muted or not: so that no picture has to go when it is unmuted."""
    usual = _STEREO_BPS if track.stereo else _MONO_BPS
    red = track.red or track.mime_type.lower() == "audio/red"
    return usual * _RED if red else usual


def _at(pixels: int) -> tuple[float, float]:
    """Bitrate and frame rate at that many pixels."""
    smallest, largest = _PRESETS[0], _PRESETS[-1]
    for end in (smallest, largest):
        if pixels <= end[0] if end is smallest else pixels >= end[0]:
            return end[1] * pixels / end[0], end[2]
    below, above = next(pair for pair in pairwise(_PRESETS) if pixels <= pair[1][0])
    part = math.log(pixels / below[0]) / math.log(above[0] / below[0])
    return below[1] * (above[1] / below[1]) ** part, below[2] + part * (above[2] - below[2])
