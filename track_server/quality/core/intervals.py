"""How far a share may truly be from what was counted. Pure."""

import math
from typing import NamedTuple


class Interval(NamedTuple):
    """Of a share, 0 to 1: the least and the most."""

    least: float
    most: float


def wilson(share: float, whole: float, z: float) -> Interval:
    """Wilson's score interval (Journal of the American Statistical Association 22, 1927) of ``share`` (0 to 1) of
    ``whole`` pieces of evidence, ``z`` standard errors either way."""
    middle = share + z * z / (2 * whole)
    spread = z * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    scale = 1 / (1 + z * z / whole)
    return Interval(max(0.0, scale * (middle - spread)), min(1.0, scale * (middle + spread)))
