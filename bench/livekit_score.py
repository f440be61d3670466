"""What LiveKit's own scorer says of loss, to be put beside ours. Pure.

After pkg/sfu/connectionquality of livekit-server 1.13.5: a window's score is 100 less its loss times a weight, followed
fast down and slowly up, never below 30.
"""

from enum import IntEnum
from typing import Final

HIGHEST: Final = 100.0
LOWEST: Final = 30.0
_DOWN: Final = 0.8
_UP: Final = 0.4
_EXCELLENT: Final = 80.0
_GOOD: Final = 40.0


class SfuLevel(IntEnum):
    """As the contract's ConnectionQuality."""

    POOR = 1
    GOOD = 2
    EXCELLENT = 3


def followed(score: float, lost: float, expected: float, weight: float) -> float:
    """The score after a window, 30 to 100; it begins at HIGHEST. ``expected``: above 0. ``weight``: of a percent."""
    window = HIGHEST - weight * 100.0 * lost / expected
    factor = _DOWN if window < score else _UP
    return min(HIGHEST, max(LOWEST, score + factor * (window - score)))


def sfu_level(score: float) -> SfuLevel:
    """The level of a score."""
    if score > _EXCELLENT:
        return SfuLevel.EXCELLENT
    return SfuLevel.GOOD if score > _GOOD else SfuLevel.POOR
