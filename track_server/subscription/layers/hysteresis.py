"""What fits into a budget that moves: down at once, up after a calm. Pure; the clock is given."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from track_server.subscription.layers.allocation import Want, allocate, spent_bps

CALM_S: Final = 10.0
"""How long there must be room before more is sent."""
ROOM: Final = 1.15
"""How much of a budget there must be for what is sent more: 15 % beyond it."""
_NO_BUDGET: Final = float("inf")


class Allocator:
    """What one subscriber's videos get of its budget, step by step.

    The *held* budget is what layers are chosen by, never above the given one, which it follows down at once. Up it goes
    when the lowest that was given in the last 10 s, less the 15 % of room, is above it, and then to that. While nothing
    but the budget changes, no video goes up without that calm, and without that room beyond all that is then sent: a
    budget that moves within 15 % makes nothing go up and down. What is wanted takes effect at once, within the held
    budget: a video that comes, goes, or comes into focus waits for nothing. The first step takes the budget as it is.
    """

    def __init__(self) -> None:
        self._past = _Past()
        self._held = _NO_BUDGET
        self._wanted: tuple[int, dict[str, Want]] = (0, {})
        self._levels: dict[str, int] = {}

    @property
    def held_bps(self) -> float | None:
        """What layers are chosen by; None while there is no budget."""
        return None if self._held == _NO_BUDGET else self._held

    @property
    def levels(self) -> Mapping[str, int]:
        """As the last step gave them."""
        return self._levels

    def step(self, now_s: float, wants: Sequence[Want], budget_bps: float | None, sound_bps: int = 0) -> dict[str, int]:
        """The index of the layer that each video gets now, or NO_LAYER, as `allocate`.

        ``now_s``: of a monotonic clock. ``budget_bps``: for all, sound included; None: none, which lets go of what is
        held after the same calm. ``sound_bps``: what sound takes of it, first. To be called whenever something changes,
        and when `due_in` has passed.
        """
        budget = _NO_BUDGET if budget_bps is None else max(0.0, budget_bps)
        calm = self._past.take(now_s, budget) / ROOM
        self._held = max(min(self._held, budget), calm)
        target = allocate(wants, None if self._held == _NO_BUDGET else self._held - sound_bps)
        wanted = sound_bps, {want.sid: want for want in wants}
        if wanted == self._wanted and sound_bps + spent_bps(wants, target) > calm:
            target = {sid: min(level, self._levels[sid]) for sid, level in target.items()}
        self._wanted, self._levels = wanted, target
        return dict(target)

    def due_in(self, now_s: float) -> float | None:
        """Seconds until `step` may give more although nothing else changes; None where it will not."""
        if all(self._levels[sid] == len(want.costs) - 1 for sid, want in self._wanted[1].items()):
            return None
        return self._past.calmer_in(now_s)


@dataclass(slots=True)
class _Given:
    """A budget, and until when it held; that of the last one is not known yet."""

    budget: float
    until_s: float = _NO_BUDGET


class _Past:
    """The lowest budget of the last 10 s."""

    def __init__(self) -> None:
        self._begun_s: float | None = None
        # Ascending: what was given before something lower, or as low, counts no more.
        self._given: deque[_Given] = deque()

    def take(self, now_s: float, budget: float) -> float:
        """A budget that holds from now on. Gives the lowest of the last 10 s, 0 before there are as many."""
        if self._begun_s is None:
            self._begun_s = now_s
        if self._given and self._given[-1].budget != budget:
            self._given[-1].until_s = now_s
            while self._given and self._given[-1].budget > budget:
                self._given.pop()
        if not self._given or self._given[-1].budget != budget:
            self._given.append(_Given(budget))
        self._given[-1].until_s = _NO_BUDGET
        while self._given[0].until_s + CALM_S <= now_s:
            self._given.popleft()
        return self._given[0].budget if now_s >= self._begun_s + CALM_S else 0.0

    def calmer_in(self, now_s: float) -> float | None:
        """Seconds until `take` may give more for the same budget; None where it will not."""
        if self._begun_s is None:
            return None
        begun_s = self._given[0].until_s if len(self._given) > 1 else self._begun_s
        due_s = begun_s + CALM_S
        return due_s - now_s if due_s > now_s else None
