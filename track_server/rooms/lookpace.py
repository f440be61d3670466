"""How often LiveKit's debug view is looked at. Pure: times are seconds of a monotonic clock."""

from typing import Final

# At most this share of the time is spent looking: large rooms are looked at less often.
_SHARE: Final = 0.05
# Where somebody waits for what was asked for to show: how often is looked, first and last, for how long, and the share.
FIRST_S: Final = 0.02
_LAST_S: Final = 0.25
_GROWTH: Final = 1.5
_HASTE_S: Final = 4.0
_HASTY_SHARE: Final = 0.2


class LookPace:
    """``interval_s``: between two looks where nobody waits."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._pause_s = interval_s
        self._hasty_until = 0.0

    def hasten(self, now: float) -> None:
        """Somebody waits for something to show."""
        self._hasty_until, self._pause_s = now + _HASTE_S, FIRST_S

    def due_in(self, took_s: float, now: float) -> float:
        """Seconds until the next look, where the last one took so much CPU time."""
        if now >= self._hasty_until:
            return max(self._interval_s, took_s / _SHARE)
        pause_s = min(self._pause_s, self._interval_s)
        self._pause_s = min(self._pause_s * _GROWTH, _LAST_S)
        return max(pause_s, took_s / _HASTY_SHARE)
