"""How speech sounds: the E-model's mean opinion score. Pure.

Fullband: ITU-T G.107.2 (06/2019), rating R up to 148, mapped as R / 1.48. Narrowband, for comparison: ITU-T G.107
(06/2015). Opus in WebRTC: Ie 10.2 and Bpl 9.6.
"""

import math
from typing import Final

R_FULLBAND: Final = 148.0
"""R without impairment, fullband."""

R_NARROWBAND: Final = 93.2
"""R without impairment, narrowband."""

OPUS_IE: Final = 10.2
"""Opus' own impairment, fullband."""

OPUS_BPL: Final = 9.6
"""How well Opus bears loss, fullband."""

CODEC_MS: Final = 26.5
"""Opus' frame of 20 ms and its look-ahead of 6.5 ms (RFC 6716, 4 and 2.1.4)."""

_LOSS_FULLBAND: Final = 132.0
_LOSS_NARROWBAND: Final = 95.0
_SCALE: Final = R_FULLBAND / 100.0


def mos_of(r: float) -> float:
    """The mean opinion score, 1 to 4.5, of a rating of 0 to 100 (G.107, B.4)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    # Between 0 and 6.5 the polynomial dips below its own least value.
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def delay_impairment(mouth_to_ear_ms: float) -> float:
    """Idd: what delay takes from R, 0 to 100 (G.107, 7-27; fullband 1.48 times as much)."""
    if mouth_to_ear_ms <= 100:
        return 0.0
    x = math.log2(mouth_to_ear_ms / 100)
    return 25 * (float((1 + x**6) ** (1 / 6)) - 3 * float((1 + (x / 3) ** 6) ** (1 / 6)) + 2)


def loss_impairment(loss_percent: float, ie: float, bpl: float, most: float, burst_r: float = 1.0) -> float:
    """Ie,eff of a codec with ``ie`` and ``bpl`` at that loss, 0 to 100 percent (G.107, 7-29). ``burst_r``: 1 random."""
    return ie + (most - ie) * loss_percent / (loss_percent / burst_r + bpl)


def narrowband_r(mouth_to_ear_ms: float, loss_percent: float, bpl: float, burst_r: float = 1.0) -> float:
    """R of G.711 with concealment (Ie 0)."""
    return (
        R_NARROWBAND
        - delay_impairment(mouth_to_ear_ms)
        - loss_impairment(loss_percent, 0.0, bpl, _LOSS_NARROWBAND, burst_r)
    )


def speech_mos(mouth_to_ear_ms: float, loss_percent: float, *, ie: float = OPUS_IE, bpl: float = OPUS_BPL) -> float:
    """Fullband MOS, 1 to 4.5, of speech that arrives so late and with so much loss after repair."""
    r = R_FULLBAND - _SCALE * delay_impairment(mouth_to_ear_ms) - loss_impairment(loss_percent, ie, bpl, _LOSS_FULLBAND)
    return mos_of(r / _SCALE)


def mouth_to_ear_ms(rtt_ms: float, buffer_ms: float | None, jitter_ms: float | None) -> float:
    """From a round trip to the time from mouth to ear: half of it, the codec, and the jitter buffer.

    ``buffer_ms``: measured; where it is not, a buffer holds about twice the jitter.
    """
    if buffer_ms is None:
        buffer_ms = 2.0 * (jitter_ms or 0.0)
    return rtt_ms / 2 + CODEC_MS + buffer_ms
