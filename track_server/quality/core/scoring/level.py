"""From scores to a level that does not flutter. Pure.

A score rests on a sample of packets, so it comes with the least and the most that it may truly be. A level is left for
a worse one only where even the most is worse, and for a better one only where even the least is better. At a constant
fault the doubt is larger than the flutter, and the level stays.
"""

import math
from enum import IntEnum
from typing import Final, NamedTuple


class Level(IntEnum):
    """How good it is."""

    EXCELLENT = 1
    GOOD = 2
    POOR = 3
    LOST = 4


FLOORS: Final = ((4.03, Level.EXCELLENT), (3.1, Level.GOOD))
"""The least score of a level. G.107, annex B: from 4.03 on users are satisfied, below 3.10 many are not."""

DOWN_S: Final = 2.0
"""So long, in seconds, it has to be worse before the level is."""

UP_S: Final = 6.0
"""And so long better."""

STALE_S: Final = 15.0
"""Without a score for so long, in seconds, there is no level, and the next one begins afresh."""


class Scored(NamedTuple):
    """A score, 1 to 5, and what it may truly be, at the least and at the most."""

    score: float
    least: float
    most: float


def level_of(score: float) -> Level:
    """The level of a score."""
    return next((level for floor, level in FLOORS if score >= floor), Level.POOR)


class Grading:
    """The level of one track on one hop."""

    def __init__(self) -> None:
        self._level: Level | None = None
        self._scored_s = -math.inf
        self._leaving: Level | None = None
        self._leaving_s = 0.0

    def level(self, now_s: float) -> Level | None:
        """The level; None where nothing was scored of late."""
        return self._level if now_s - self._scored_s <= STALE_S else None

    def add(self, scored: Scored | None, now_s: float, *, lost: bool = False) -> Level | None:
        """Takes a score (None: not measured) and says the level. ``lost``: nothing arrives, LOST at once."""
        if scored is None and not lost:
            return self.level(now_s)
        if now_s - self._scored_s > STALE_S:
            self._level = None
        self._scored_s = now_s
        target = Level.LOST if lost or scored is None else self._target(scored)
        here = self._level
        if here is None or target is here or target is Level.LOST:
            self._level, self._leaving = target, None
            return target
        if self._leaving is None or (self._leaving > here) != (target > here):
            self._leaving_s = now_s
        self._leaving = target
        if now_s - self._leaving_s >= (DOWN_S if target > here else UP_S):
            self._level, self._leaving = target, None
        return self._level

    def doubt(self, short: Scored, long: Scored | None) -> Level | None:
        """Takes the score of a long window, which leaves less doubt: a level that even it denies is left at once.

        Only where ``short``, of the newest seconds, points the same way: else what the long one tells is over.
        """
        here = self._level
        if long is None or here is None or here is Level.LOST:
            return here
        target, newest = self._target(long), level_of(short.score)
        if (target > here and newest > here) or (target < here and newest < here):
            self._level = target
        return self._level

    def _target(self, scored: Scored) -> Level:
        here = self._level
        if here is None or here is Level.LOST:
            return level_of(scored.score)
        at_best, at_worst = level_of(scored.most), level_of(scored.least)
        if at_best > here:
            return at_best
        return min(here, at_worst)
