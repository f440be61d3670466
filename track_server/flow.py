"""Counters of what is sent, looked at from time to time: when they grew. Pure."""


class Flow:
    """One counter that grows. Times are seconds of any clock, never falling."""

    def __init__(self, count: int = 0) -> None:
        """``count``: what was there before the first look."""
        self.first_s: float | None = None
        """The look that saw it grow first."""
        self.last_s: float | None = None
        """The look that saw it grow last."""
        self.longest_s = 0.0
        """The longest time between two looks: so exact are the others."""
        self._count = count
        self._looked_s: float | None = None

    def look(self, count: int, now_s: float) -> None:
        """Takes what the counter is now. One that went back is another one, and begins anew."""
        if self._looked_s is not None:
            self.longest_s = max(self.longest_s, now_s - self._looked_s)
        self._looked_s = now_s
        if count > self._count:
            self.first_s = now_s if self.first_s is None else self.first_s
            self.last_s = now_s
        self._count = count


def gap_ms(old: Flow, new: Flow) -> float | None:
    """Milliseconds between the last growth of ``old`` and the first of ``new``; 0 where the new one was first.

    None where either was never seen to grow.
    """
    if old.last_s is None or new.first_s is None:
        return None
    return max(0.0, (new.first_s - old.last_s) * 1e3)
