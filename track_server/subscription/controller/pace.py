"""How often a client that does otherwise is set right. Pure: times are seconds of any monotonic clock."""

from dataclasses import dataclass
from typing import Final

LONGEST_S: Final = 60.0
"""Between two corrections of a client that goes on."""
_FIRST_S: Final = 1.0
CALM_S: Final = 600.0
"""A client that did as it should for so long begins anew."""


@dataclass(slots=True)
class Corrections:
    """Those of one subscriber and track."""

    times: int = 0
    """In all."""
    _in_a_row: int = 0
    _last_at: float = 0.0

    def due_at(self, now: float) -> float:
        """When the next one may be made: at once, then 1 s after the last one, and twice as long each time, up to
        LONGEST_S."""
        if not self._in_a_row or now - self._last_at >= CALM_S:
            return now
        return self._last_at + min(_FIRST_S * 2.0 ** min(self._in_a_row - 1, 10), LONGEST_S)

    def made(self, now: float) -> int:
        """One was made; says how many there were by now."""
        self._in_a_row = 1 if now - self._last_at >= CALM_S else self._in_a_row + 1
        self._last_at = now
        self.times += 1
        return self.times
