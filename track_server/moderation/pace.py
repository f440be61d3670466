"""How fast clients that unmute themselves again and again are muted again, and how often that is told. Pure."""

from collections.abc import Hashable
from typing import Final

from track_server.limits.rates import Rates

PER_TRACK: Final = 50.0
"""Mutes of one track a second, and so many at once. Sound travels in packets of 20 ms: more would help nobody."""
PER_SERVER: Final = 500.0
"""Mutes of all tracks a second. One takes about 0.4 ms of this server and as much of LiveKit."""
TOLD_S: Final = 1.0
"""The enforcements of a block that come within so long are told together."""


class Pace:
    """Who is muted again when. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._track = Rates(PER_TRACK)
        self._server = Rates(PER_SERVER)

    def wait(self, key: Hashable, now: float) -> float:
        """Takes a turn and gives 0, or seconds until there may be one."""
        return self._track.take(key, now) or self._server.take("", now)


class Telling:
    """The enforcements of one block that are still to be told, and when."""

    def __init__(self) -> None:
        self.untold = 0
        """How many are not told yet."""
        self._told_at: float | None = None

    def count(self) -> None:
        """One more."""
        self.untold += 1

    def due_in(self, now: float) -> float:
        """Seconds until what is not told yet is to be told, 0 or more."""
        return 0.0 if self._told_at is None else max(0.0, self._told_at + TOLD_S - now)

    def tell(self, now: float) -> int:
        """Takes all for told; gives how many were not."""
        untold, self.untold, self._told_at = self.untold, 0, now
        return untold
