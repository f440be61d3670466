"""What a line measured of late, by the second. Pure."""

import math
from collections import deque
from typing import Final

from track_server.quality.core.adapting.ladder import Timing
from track_server.quality.core.adapting.measure import Measure, total

MORE: Final = 15
"""Measures beyond those that a decision looks at: it may come late."""


class Recent:
    """Owner of the last measures of a line, a second each, with their times (monotonic), as many as decisions look
    at."""

    def __init__(self, timing: Timing) -> None:
        self._measures: deque[tuple[float, Measure]] = deque(maxlen=_kept(timing))
        self.measured_s = -math.inf
        """When anything was measured last."""

    def keep(self, timing: Timing) -> None:
        """From now on as many, at least, as with that timing."""
        if _kept(timing) > (self._measures.maxlen or 0):
            self._measures = deque(self._measures, maxlen=_kept(timing))

    def add(self, measure: Measure, now_s: float) -> None:
        """What was measured since the last tick."""
        if measure.seconds > 0:
            self._measures.append((now_s, measure))
            self.measured_s = now_s

    def between(self, begin_s: float, end_s: float) -> Measure:
        """The sum of what was told after ``begin_s``, up to ``end_s``."""
        return total([measure for time_s, measure in self._measures if begin_s < time_s <= end_s])


def _kept(timing: Timing) -> int:
    return math.ceil(timing.looked_back_s) + MORE
