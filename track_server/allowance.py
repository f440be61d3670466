"""How much of something may be had: so much a second, and some at once. Pure: the clock is given."""


class Allowance:
    """A token bucket of ``burst``, full at first and filled with ``per_second``. Times are seconds of any clock, never
    falling."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        """Takes so much, if there is so much."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
