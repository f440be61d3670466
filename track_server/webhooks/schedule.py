"""When an event that was not taken is sent again, and when it is given up. Pure."""

from typing import Final

FIRST_PAUSE_S: Final = 1.0
LAST_PAUSE_S: Final = 300.0
"""Pauses between tries of a room's events double from the first to the last."""
_DOUBLINGS: Final = 20


def pause_s(failures: int, jitter: float) -> float:
    """Seconds until the next try after so many failures in a row, 1 or more.

    ``jitter``: 0 to 1, at random: half of the pause is, so that receivers that come back are not met by all at once.
    """
    whole: float = min(FIRST_PAUSE_S * 2 ** min(failures - 1, _DOUBLINGS), LAST_PAUSE_S)
    return whole * (0.5 + 0.5 * jitter)


def given_up(now: float, *, event_time: float, failing_since: float, give_up_s: float) -> bool:
    """Whether an event whose try has just failed is parked: it was due for longer than ``give_up_s``, all the while of
    which nobody took anything of its room. Times in seconds since 1970 UTC.

    ``failing_since``: of the first of the failures in a row. An event that came later is due since then.
    """
    return now - max(event_time, failing_since) >= give_up_s
