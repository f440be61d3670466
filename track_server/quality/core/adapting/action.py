"""One action and what came of it. Pure."""

from dataclasses import dataclass
from enum import IntEnum

from track_server.quality.core.adapting.ladder import ActionKind, Line
from track_server.quality.core.adapting.measure import Measure, Verdict


class Move(IntEnum):
    """Which way."""

    DOWN = 1
    """A step down the ladder, or a restart."""
    UP = 2
    """A step up, on trial."""
    BACK = 3
    """A step up that is taken back."""
    RELEASE = 4
    """All steps at once: they had no effect, or nobody measures any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What was done, or held back. ``quality``: the highest layer that is left; None where none is limited.

    ``reason``: a few words. ``held``: it was not done, to compare. ``time_s``: monotonic. ``before``: what was measured
    in the time before; ``after`` and ``verdict``: None until they are known.
    """

    number: int
    line: Line
    move: Move
    kind: ActionKind
    quality: int | None
    reason: str
    time_s: float
    held: bool
    before: Measure
    after: Measure | None = None
    verdict: Verdict | None = None
