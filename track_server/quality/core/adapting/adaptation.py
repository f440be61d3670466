"""What is done about the quality of one room: its lines, their budget, and what is held back to compare. Pure.

Time comes in with each call and chance as a seeded generator, so the same samples give the same actions.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from track_server.quality.core.adapting.action import Action
from track_server.quality.core.adapting.ladder import Line, Policy, Rung, Timing
from track_server.quality.core.adapting.line import Leave, LineState
from track_server.quality.core.adapting.measure import Measure
from track_server.quality.core.adapting.recent import Recent
from track_server.quality.core.adapting.view import View

_SILENT: Final = View(reasons=frozenset(), fresh=Measure())


class Adaptation:
    """Owner of a room's lines of action. ``policy``: of a line, None where nothing may be done on it."""

    def __init__(
        self,
        policy: Callable[[Line], Policy | None],
        timing: Timing,
        chance: random.Random,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """``timing``: of the budget, and of the lines whose policy has none of its own. ``numbers``: of its actions,
        each once; None: from 1."""
        self._policy = policy
        self._timing = timing
        self._chance = chance
        self._lines: dict[Line, LineState] = {}
        self._recents: dict[Line, Recent] = {}
        """Of all lines that are measured: what was before a trouble is what its actions are compared with."""
        self._budget = Budget(timing.budget, timing.budget_s)
        self._numbers = numbers or itertools.count(1)

    def step(self, views: Mapping[Line, View], now_s: float) -> list[Action]:
        """What is done at ``now_s`` (monotonic, never falling), and actions again once their verdict is known.

        ``views``: of the lines of which anything is known; the others are not measured.
        """
        leave = self._leave(now_s)
        for line, view in views.items():
            self._recent(line).add(view.fresh, now_s)
            if view.reasons and line not in self._lines:
                policy = self._policy(line)
                if policy is not None and policy.rungs(line.family):
                    timing = policy.timing or self._timing
                    self._lines[line] = LineState(line, policy, timing, self._recent(line))
        for line in [line for line in self._recents if line not in views and line not in self._lines]:
            del self._recents[line]
        found: list[Action] = []
        for line, state in list(self._lines.items()):
            found += state.step(views.get(line, _SILENT), now_s, leave)
            if state.idle(now_s):
                del self._lines[line]
        return found

    def rungs(self) -> dict[Line, Rung]:
        """What holds now."""
        return {line: rung for line, state in self._lines.items() if (rung := state.rung) is not None}

    def frozen(self, now_s: float) -> list[Line]:
        """The lines that turned too often and are kept low."""
        return [line for line, state in self._lines.items() if state.frozen(now_s)]

    def drop(self, gone: Callable[[Line], bool]) -> list[Line]:
        """Forgets the lines of tracks and participants that are gone, or whose policy changed; says which held."""
        dropped = [line for line in self._lines if gone(line)]
        held = [line for line in dropped if self._lines[line].rung is not None]
        for line in dropped:
            del self._lines[line]
        return held

    def retime(self, timing: Timing) -> None:
        """The room's timing is another from now on; what was taken of its budget before does not count."""
        self._timing = timing
        self._budget = Budget(timing.budget, timing.budget_s)

    def recent(self, line: Line) -> Recent:
        """What is measured of that line; empty where nothing is. It grows with each step while it is measured."""
        return self._recent(line)

    def carry(self, line: Line, to: Line) -> None:
        """What is done and remembered on ``line`` is that of ``to`` from now on: a track has another SID."""
        state = self._lines.pop(line, None)
        if state is not None:
            state.line = to
            self._lines[to] = state
            self._recents[to] = self._recent(line)
            del self._recents[line]

    def _recent(self, line: Line) -> Recent:
        recent = self._recents.get(line)
        if recent is None:
            recent = self._recents[line] = Recent(self._timing)
        return recent

    def _leave(self, now_s: float) -> Leave:
        return Leave(
            act=lambda: self._budget.take(now_s),
            hold=lambda share: self._chance.random() < share,
            number=lambda: next(self._numbers),
        )


class Budget:
    """So many actions in any ``span_s``."""

    def __init__(self, most: int, span_s: float) -> None:
        self._span_s = span_s
        self._taken: deque[float] = deque(maxlen=most)

    def take(self, now_s: float) -> bool:
        """Takes one, and says whether there was one."""
        taken = self._taken
        if taken.maxlen == len(taken) and (not taken or now_s - taken[0] < self._span_s):
            return False
        taken.append(now_s)
        return True
