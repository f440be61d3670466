"""The action of a line whose effect is being looked at. Pure."""

from dataclasses import replace

from track_server.quality.core.adapting.action import Action, Move
from track_server.quality.core.adapting.ladder import Timing
from track_server.quality.core.adapting.measure import NOTHING, Measure, Verdict, verdict
from track_server.quality.core.adapting.recent import Recent


class Trial:
    """Owner of the last action until its verdict is known. A further action ends it before: one at a time."""

    def __init__(self, timing: Timing) -> None:
        self._settle_s = timing.settle_s
        self._span_s = timing.settle_s + timing.observe_s
        self._action: Action | None = None
        self._ended: list[Action] = []

    @property
    def running(self) -> bool:
        """Whether an action is looked at."""
        return self._action is not None

    def descending(self) -> bool:
        """Whether a step down is looked at: to go up now would leave its verdict open."""
        return self._action is not None and self._action.move is Move.DOWN and not self._action.held

    def before(self, move: Move, recent: Measure, now_s: float) -> Measure:
        """What a next action is compared with: steps of one flight with what was before the first of them."""
        running = self._action
        if running is None or running.move is not move or running.held or now_s >= running.time_s + self._span_s:
            return recent
        return running.before

    def begin(self, action: Action) -> None:
        """Looks at ``action`` from now on."""
        if self._action is not None:
            self._ended.append(replace(self._action, after=NOTHING, verdict=Verdict.CANNOT_TELL))
        self._action = action

    def judged(self, recent: Recent, now_s: float) -> list[Action]:
        """The actions whose verdict is known since this was called last; of the last of them nothing came between."""
        found, self._ended = self._ended, []
        action = self._action
        if action is not None and now_s >= action.time_s + self._span_s:
            after = recent.between(action.time_s + self._settle_s, now_s)
            found.append(replace(action, after=after, verdict=verdict(action.line.family, action.before, after)))
            self._action = None
        return found
