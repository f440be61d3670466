"""How long a line waits before it tries again, and when it is not to try at all. Pure."""

import math
from collections import deque
from typing import Final

from track_server.quality.core.adapting.ladder import Timing

FUTILE_MOST_S: Final = 1800.0
"""The longest that a line which cannot be helped is left alone, in seconds, before it is tried once more."""


class Patience:
    """Owner of a line's back-off, its turns from up to down, and what it has learned to be of no use."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._backoff_s = timing.backoff_s
        self._up_from_s = -math.inf
        self._futile_s = timing.backoff_most_s
        self._down_from_s = -math.inf
        self._frozen_until_s = -math.inf
        self._turns: deque[float] = deque(maxlen=timing.reversals)

    def frozen(self, now_s: float) -> bool:
        """Whether it turned too often, and stays where it is or goes lower."""
        return now_s < self._frozen_until_s

    def may_rise(self, now_s: float) -> bool:
        """Whether a step up may be tried, or a restart repeated."""
        return now_s >= max(self._up_from_s, self._frozen_until_s)

    def may_descend(self, now_s: float) -> bool:
        """Whether steps down have not just been shown to be of no use."""
        return now_s >= self._down_from_s

    def failed(self, now_s: float) -> None:
        """A probe was taken back, or a restart was made: the next one waits, each time twice as long."""
        self._up_from_s = now_s + self._backoff_s
        self._backoff_s = min(self._timing.backoff_most_s, 2 * self._backoff_s)

    def proved(self) -> None:
        """A probe held."""
        self._up_from_s = -math.inf
        self._backoff_s = self._timing.backoff_s

    def turned(self, now_s: float) -> None:
        """From up to down."""
        self._turns.append(now_s)
        if len(self._turns) == self._timing.reversals and now_s - self._turns[0] <= self._timing.reversals_within_s:
            self._frozen_until_s = now_s + self._timing.freeze_s
            self._turns.clear()

    def futile(self, now_s: float) -> None:
        """Steps down had no effect."""
        self._down_from_s = now_s + self._futile_s
        self._futile_s = min(FUTILE_MOST_S, 2 * self._futile_s)

    def useful(self) -> None:
        """They had one after all."""
        self._down_from_s = -math.inf
        self._futile_s = self._timing.backoff_most_s

    def forget(self) -> None:
        """The trouble is long over: the next one is another."""
        self._turns.clear()
        self._futile_s = self._timing.backoff_most_s
        self._backoff_s = self._timing.backoff_s
        self._down_from_s = -math.inf
