"""How many layers a busy machine is spared. Pure; the clock is given."""

from typing import Final

BUSY: Final = 0.85
"""From this load on video is received smaller."""
CALM: Final = 0.7
"""Below it, larger again."""
STEP_S: Final = 5.0
"""Between two layers, down or up."""
_MOST: Final = 2
"""There are three layers at most, and the lowest stays."""


class LoadSteps:
    """How many layers below the highest one subscriber's videos are, by the load of its machine."""

    def __init__(self) -> None:
        self.layers_down = 0
        """0 to 2."""
        self._stepped_s: float | None = None

    def step(self, now_s: float, load: float | None) -> int:
        """The layers to go down now.

        One when the load is 0.85 or more, and one more every 5 s while it stays so; one less every 5 s while it is
        below 0.7; as they are in between. ``load``: 0 to 1; None, not known: none.

        To be called at every report, and when `due_in` has passed.
        """
        if load is None:
            self.layers_down, self._stepped_s = 0, None
        elif (change := _change(self.layers_down, load)) and self._may(now_s):
            self.layers_down += change
            self._stepped_s = now_s
        return self.layers_down

    def due_in(self, now_s: float, load: float | None) -> float | None:
        """Seconds until `step` changes something at the same load; None where it will not."""
        if load is None or not _change(self.layers_down, load):
            return None
        return 0.0 if self._stepped_s is None else max(0.0, self._stepped_s + STEP_S - now_s)

    def _may(self, now_s: float) -> bool:
        return self._stepped_s is None or now_s >= self._stepped_s + STEP_S


def _change(layers_down: int, load: float) -> int:
    if load >= BUSY and layers_down < _MOST:
        return 1
    return -1 if load < CALM and layers_down > 0 else 0
