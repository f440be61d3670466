"""What actions brought in all, against those that were held back. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from track_server.quality.core.adapting.action import Move
from track_server.quality.core.adapting.measure import Verdict
from track_server.quality.core.intervals import wilson

Z: Final = 1.96
"""95 % confidence."""


class Judged(Protocol):
    """What is known of an action: see Action."""

    @property
    def move(self) -> Move:
        """Which way."""

    @property
    def held(self) -> bool:
        """Whether it was not done, to compare."""

    @property
    def verdict(self) -> Verdict | None:
        """What it did; None until that is known."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Steps down with a verdict that tells something: so many ``acted``, ``held`` held back, and those that
    ``improved`` among them. ``gain``: the difference of the two shares, with its 95 % interval; None where one is
    empty."""

    acted: int
    acted_improved: int
    held: int
    held_improved: int
    gain: float | None
    gain_least: float | None
    gain_most: float | None


def effect(actions: Iterable[Judged]) -> Effect:
    """Newcombe's interval of a difference of two shares (Statistics in Medicine 17, 1998, method 10)."""
    told = [
        action for action in actions if action.move is Move.DOWN and action.verdict not in (None, Verdict.CANNOT_TELL)
    ]
    acted = [action.verdict is Verdict.IMPROVED for action in told if not action.held]
    held = [action.verdict is Verdict.IMPROVED for action in told if action.held]
    if not acted or not held:
        return Effect(len(acted), sum(acted), len(held), sum(held), None, None, None)
    first, second = sum(acted) / len(acted), sum(held) / len(held)
    first_least, first_most = wilson(first, len(acted), Z)
    second_least, second_most = wilson(second, len(held), Z)
    gain = first - second
    return Effect(
        len(acted),
        sum(acted),
        len(held),
        sum(held),
        gain,
        gain - math.hypot(first - first_least, second_most - second),
        gain + math.hypot(first_most - first, second - second_least),
    )
