"""One line of actions: steps down its ladder while there is trouble, and up again as a probe when it is calm. Pure.

| phase | in it | left |
|---|---|---|
| RESTING | steps down while there is trouble, a probe when it was calm for `calm_s` | a step up, or a release |
| PROBING | a step up is on trial for `probe_s` | kept, or taken back as soon as it is worse |

How often it may turn, how long it waits after a failed probe, and whether its steps were of any use is `patience`'s.
Every action's effect is looked at (`trial`); one that had none is taken back, and not repeated for a while.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from track_server.quality.core.adapting.action import Action, Move
from track_server.quality.core.adapting.ladder import HIGH, Family, Line, Policy, Rung, Timing
from track_server.quality.core.adapting.measure import NOTHING, Verdict
from track_server.quality.core.adapting.patience import Patience
from track_server.quality.core.adapting.recent import Recent
from track_server.quality.core.adapting.symptoms import bad, calm, worse
from track_server.quality.core.adapting.trial import Trial
from track_server.quality.core.adapting.view import View
from track_server.quality.core.detecting.table import AlertKind

SKIP_S: Final = 1.0
"""What is told within so long after a step was under way before it."""

_BY_LOSS: Final = frozenset({AlertKind.NETWORK_LOSS, AlertKind.SEVERE_LOSS, AlertKind.BAD_AUDIO})
_MACHINES: Final = frozenset({Family.RECEIVER, Family.SENDER})
_BY_TROUBLE: Final = _MACHINES | {Family.MEDIA}


LEAST_BEFORE_S: Final = 4.0
"""At least so long before an action is what it is compared with."""


class Phase(Enum):
    """Where a line is."""

    RESTING = "resting"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Leave:
    """What a room gives its lines. ``act``: takes one action of its budget, and says whether there was one. ``hold``:
    whether the next is held back, to compare. ``number``: a number for it."""

    act: Callable[[], bool]
    hold: Callable[[float], bool]
    number: Callable[[], int]


class LineState:
    """Owner of what is done on one line. ``recent``: its measures, also those of before its first trouble; the room's,
    which adds each tick's before ``step``."""

    def __init__(self, line: Line, policy: Policy, timing: Timing, recent: Recent) -> None:
        self.line = line
        self._timing = timing
        self._policy = policy
        self._rungs = policy.rungs(line.family)
        self._position = 0
        self._phase = Phase.RESTING
        self._stepped_s = -math.inf
        self._rose = False
        """Whether the last step was up."""
        self._back_to = 0
        self._releasing = False
        self._known: frozenset[AlertKind] = frozenset()
        """The alerts that were on when a probe began."""
        self._useless = False
        """The steps down had no effect, in the trouble that goes on."""
        self._drawn = False
        """Whether it was drawn, in this trouble, if its first step is held back."""
        self._held_until_s = -math.inf
        """Until when it holds still after an action that was held back."""
        self._troubled_s = -math.inf
        self._since_s: float | None = None
        self._recent = recent
        recent.keep(timing)
        self._before_step = NOTHING
        """What was measured before the last move."""
        self._trial = Trial(timing)
        self._patience = Patience(timing)

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return self._phase

    @property
    def rung(self) -> Rung | None:
        """The action that holds now; None where nothing does."""
        return self._rungs[self._position - 1] if self._position else None

    def frozen(self, now_s: float) -> bool:
        """Whether it turned too often, and does not rise for a while."""
        return self._patience.frozen(now_s)

    def idle(self, now_s: float) -> bool:
        """Whether nothing is done or on trial, and nothing has to be remembered of a trouble."""
        quiet = now_s - self._troubled_s > self._timing.reversals_within_s
        return quiet and not self._position and not self._trial.running and self._phase is Phase.RESTING

    def step(self, view: View, now_s: float, leave: Leave) -> list[Action]:
        """What is done at ``now_s`` (monotonic, never falling), and the actions whose verdict is known by now."""
        self._since_s = view.since_s
        trouble = bool(view.reasons) and not self._over(view.reasons, now_s)
        if trouble:
            self._troubled_s = now_s
        else:
            self._drawn = self._useless = False
            self._held_until_s = -math.inf
            if now_s - self._troubled_s > self._timing.reversals_within_s:
                self._patience.forget()
        found = self._trial.judged(self._recent, now_s)
        self._useless = trouble and (self._useless or _useless(found))
        if self._blind(now_s):
            # Nobody is left to judge a probe either.
            self._phase = Phase.RESTING
        if self._phase is Phase.PROBING:
            action = self._probe(view, now_s, leave)
        elif self._useless and not self._patience.frozen(now_s):
            action = self._release(view, now_s, leave)
        elif trouble:
            action = self._down(view, now_s, leave)
        else:
            action = self._up(view, now_s, leave)
        return found if action is None else [*found, action]

    def _down(self, view: View, now_s: float, leave: Leave) -> Action | None:
        if not self._due(view, now_s):
            return None
        # The first step of a trouble alone, and with nothing else on trial: that would be compared as well.
        # What follows is not held back: it is helped late, not never.
        first, self._drawn = not self._drawn, True
        if first and not self._trial.running and leave.hold(self._policy.hold_back):
            self._held_until_s = now_s + self._timing.settle_s + self._timing.observe_s
            return self._begin(self._position + 1, Move.DOWN, view.text, now_s, leave, held=True)
        if not leave.act():
            return None
        if self._rose:
            self._patience.turned(now_s)
        return self._move(self._position + 1, Move.DOWN, view.text, now_s, leave)

    def _due(self, view: View, now_s: float) -> bool:
        """Whether there is a next rung and its time has come."""
        if self._position == len(self._rungs) or not self._patience.may_descend(now_s):
            return False
        if now_s < self._held_until_s:
            return False
        family = self.line.family
        if family is Family.MEDIA:
            return not view.congested and self._patience.may_rise(now_s) and not self._trial.running
        if not self._position:
            return True
        since_s = now_s - self._stepped_s
        if since_s < max(self._timing.step_s, self._rungs[self._position].after_s):
            return False
        since = self._recent.between(max(self._stepped_s + SKIP_S, now_s - self._timing.observe_s), now_s)
        if family in _MACHINES:
            return since.troubled_s >= since.seconds / 2 > 0
        return bad(self._before_step, since)

    def _up(self, view: View, now_s: float, leave: Leave) -> Action | None:
        if not self._position:
            return None
        if self._blind(now_s):
            return self._move(0, Move.RELEASE, "nothing is measured", now_s, leave)
        if not view.measured or self._trial.descending() or not self._patience.may_rise(now_s):
            return None
        if now_s - self._stepped_s < self._timing.calm_s:
            return None
        quality = self._rungs[self._position - 1].quality
        # LiveKit itself sends less than is allowed: to allow more would change nothing, and prove nothing.
        if view.received is not None and quality is not None and view.received < quality:
            return None
        if not (self._calm(now_s) and leave.act()):
            return None
        return self._try(self._position - 1, Move.UP, view, "calm", now_s, leave)

    def _blind(self, now_s: float) -> bool:
        """Whether nothing was measured for so long that nobody could say that a limit helps."""
        return now_s - max(self._stepped_s, self._recent.measured_s) >= self._timing.blind_s

    def _over(self, reasons: frozenset[AlertKind], now_s: float) -> bool:
        """Whether the alerts only wait to be sure: they are about loss, and there has been none for long enough."""
        return reasons <= _BY_LOSS and self.line.family not in _MACHINES and self._calm(now_s)

    def _calm(self, now_s: float) -> bool:
        span_s = self._timing.calm_s
        if self.line.family in _MACHINES:
            return now_s - self._troubled_s >= span_s
        middle_s = now_s - span_s / 2
        # Both halves, so that what was lost at the begin is not made up for by all that came after.
        return calm(self._recent.between(middle_s, now_s)) and calm(self._recent.between(now_s - span_s, middle_s))

    def _release(self, view: View, now_s: float, leave: Leave) -> Action:
        """All steps are taken back, on trial as well: if that is worse, they were of use."""
        self._patience.futile(now_s)
        action = self._try(0, Move.RELEASE, view, "no effect", now_s, leave)
        self._releasing = True
        return action

    def _try(self, position: int, move: Move, view: View, reason: str, now_s: float, leave: Leave) -> Action:
        self._back_to = self._position
        self._known = view.reasons
        self._releasing = False
        self._phase = Phase.PROBING
        return self._move(position, move, reason, now_s, leave)

    def _probe(self, view: View, now_s: float, leave: Leave) -> Action | None:
        """Takes a step up back if it made things worse, and keeps it after its time."""
        before = self._recent.between(self._stepped_s - self._timing.calm_s, self._stepped_s)
        after = self._recent.between(self._stepped_s, now_s)
        if view.reasons - self._known or worse(before, after):
            self._phase = Phase.RESTING
            # A probe that fails shows that the trouble is still there.
            self._troubled_s = now_s
            if self._releasing:
                self._patience.useful()
            self._patience.failed(now_s)
            self._patience.turned(now_s)
            return self._move(self._back_to, Move.BACK, view.text or "worse", now_s, leave)
        if now_s - self._stepped_s >= self._timing.probe_s and view.measured:
            self._phase = Phase.RESTING
            self._patience.proved()
        return None

    def _move(self, position: int, move: Move, reason: str, now_s: float, leave: Leave) -> Action:
        action = self._begin(position, move, reason, now_s, leave)
        self._rose = position < self._position
        self._stepped_s = now_s
        self._before_step = self._recent.between(now_s - self._timing.observe_s, now_s)
        self._useless = False
        if self.line.family is Family.MEDIA:
            # It is done, and holds nothing.
            self._patience.failed(now_s)
        else:
            self._position = position
        return action

    def _begin(
        self, position: int, move: Move, reason: str, now_s: float, leave: Leave, *, held: bool = False
    ) -> Action:
        quality = self._rungs[position - 1].quality if position else HIGH
        begin_s = now_s - self._timing.observe_s
        if move is Move.DOWN and self._since_s is not None:
            # Before the trouble all was well, which is not what the action is to improve on.
            begin_s = max(begin_s, min(self._since_s, now_s - LEAST_BEFORE_S))
        recent = self._recent.between(begin_s, now_s)
        if move is Move.DOWN and self.line.family in _BY_TROUBLE:
            # There was trouble before its alert was sure of it.
            recent = replace(recent, troubled_s=recent.seconds)
        action = Action(
            number=leave.number(),
            line=self.line,
            move=move,
            kind=self._rungs[max(position, self._position, 1) - 1].kind,
            quality=None if self.line.family is Family.MEDIA else quality,
            reason=reason,
            time_s=now_s,
            held=held,
            before=self._trial.before(move, recent, now_s),
        )
        self._trial.begin(action)
        return action


def _useless(judged: list[Action]) -> bool:
    """Whether the last step down had no effect, or a bad one."""
    return any(
        action.move is Move.DOWN
        and not action.held
        and action.quality is not None
        and action.verdict in (Verdict.NONE, Verdict.WORSE)
        for action in judged
    )
