"""How far one subscription has come, and what is to be done next. Pure: times are seconds of one monotonic clock."""

import enum
from dataclasses import dataclass, field
from typing import Final

from track_server.errors import LiveKitUnavailable, TrackError
from track_server.subscription.controller.pace import LONGEST_S, Corrections

TAKES_S: Final = 4.0
"""LiveKit's reconciler ticks every 3 s at the latest: what is not seen by then is asked for again."""
BLIND_S: Final = (1.0, 3.0)
"""Where nobody sees who is subscribed, an unsubscription is asked for again so long after the one before: LiveKit may
subscribe a client that is just connecting after it took our word."""
SETTLED_S: Final = 5.0
"""Who has been there for so long, with the track, and does not have it, was not about to get it."""
PROBLEM_S: Final = 10.0
"""What has not come about by then is told as a problem."""
_LATE_S: Final = 0.5
"""A subscription that was never seen before, so soon after it was to end, was LiveKit's own and on its way."""


class Step(enum.Enum):
    """What is to be done now."""

    NOTHING = enum.auto()
    ASK = enum.auto()
    CORRECT = enum.auto()
    """Ask, because the client did otherwise."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen. ``seen``: whether it is subscribed, None where nobody sees it. ``looked_at``: when that was so.

    ``connected_at``: when the subscriber's connection was up; None while it is not. ``present_since``: when both
    subscriber and track were there.
    """

    seen: bool | None
    looked_at: float
    connected_at: float | None
    present_since: float


@dataclass(slots=True)
class Progress:
    """Of one subscriber and track."""

    wanted: bool | None = None
    """What is to be brought about; None: nothing."""
    wanted_at: float = 0.0
    asked: bool | None = None
    """What is wanted, once LiveKit was asked for it or has it anyway."""
    asked_at: float = 0.0
    asking: bool | None = None
    """What LiveKit is being asked for."""
    rounds: int = 0
    """How often it was asked for what is wanted, in a row."""
    reached: bool = False
    """It was seen as wanted since LiveKit was asked, or nobody sees it and all was done."""
    had: bool = False
    """It was seen subscribed before."""
    had_before: bool = False
    """It was seen subscribed before LiveKit was asked for what is wanted."""
    client: bool | None = None
    """What the client has chosen, where it may."""
    corrections: Corrections = field(default_factory=Corrections)
    failure: TrackError | None = None

    def want(self, wanted: bool | None, now: float) -> None:
        """This is to be brought about from now on."""
        if wanted == self.wanted:
            return
        self.wanted, self.wanted_at, self.rounds = wanted, now, 0
        self.asked, self.reached, self.client, self.failure = None, False, None, None

    def took(self, subscribe: bool, now: float) -> None:
        """LiveKit was asked for that: what was seen before counts no more."""
        self.asked_at = now
        if subscribe is self.wanted:
            if not self.rounds:
                self.had_before = self.had
            self.rounds += 1
            self.reached, self.failure, self.asked = False, None, subscribe

    def problem(self, now: float) -> TrackError | None:
        """Why it is not as wanted; None where it is, or may still be on its way."""
        late = self.wanted is not None and not self.reached and self.client is None
        if self.failure is not None or not late or now < self.wanted_at + PROBLEM_S:
            return self.failure
        state = "not subscribed yet" if self.wanted else "still subscribed"
        return LiveKitUnavailable(f"the participant is {state}: LiveKit or its client has not carried it out")

    def step(self, view: View, held: bool, now: float) -> tuple[Step, float | None]:
        """What to do now; and where that is nothing, when to look again even if nothing changes (None: not).

        ``held``: a client that does otherwise is corrected.
        """
        had, self.had = self.had, self.had or view.seen is True
        if self.wanted is None or self.asking is self.wanted:
            return Step.NOTHING, None
        if self.asked is not self.wanted:
            return self._first(view, now)
        if view.seen is None:
            return self._blind(now)
        if view.looked_at < self.asked_at:
            return Step.NOTHING, self.asked_at + TAKES_S
        if view.seen == self.wanted:
            self.reached, self.client, self.rounds = True, None, 0
            return Step.NOTHING, None
        if self.reached:
            if view.seen and not had and now < self.asked_at + _LATE_S:
                return Step.ASK, None
            return self._undone(view.seen, held, now)
        return self._unseen(view, held, now)

    def _first(self, view: View, now: float) -> tuple[Step, float | None]:
        if view.connected_at is None and not self.wanted:
            # LiveKit subscribes a client to everything at the moment when its connection is up.
            return Step.NOTHING, None
        known = view.seen == self.wanted and self.asking is None and view.looked_at > self.asked_at
        # What is seen in the moment after an opposite ask may be what was before it.
        known = known and now >= self.asked_at + _LATE_S if self.asked_at else known
        if known and not self.wanted:
            since = max(view.present_since, view.connected_at or 0.0)
            known = now >= since + SETTLED_S and view.looked_at >= self.wanted_at
        if not known:
            return Step.ASK, None
        self.asked, self.reached = self.wanted, True
        return Step.NOTHING, None

    def _blind(self, now: float) -> tuple[Step, float | None]:
        if self.wanted or self.rounds > len(BLIND_S):
            self.reached = True
            return Step.NOTHING, None
        due = self.asked_at + BLIND_S[max(0, self.rounds - 1)]
        self.reached = True
        return (Step.ASK, None) if now >= due else (Step.NOTHING, due)

    def _undone(self, seen: bool, held: bool, now: float) -> tuple[Step, float | None]:
        """It was as wanted, and is not any more."""
        if not held:
            self.client = seen
            return Step.NOTHING, None
        due = self.corrections.due_at(now)
        return (Step.CORRECT, None) if now >= due else (Step.NOTHING, due)

    def _unseen(self, view: View, held: bool, now: float) -> tuple[Step, float | None]:
        """It was asked for, and never seen."""
        due = self.asked_at + min(TAKES_S * 2.0 ** min(self.rounds - 1, 10), LONGEST_S)
        if now < due:
            return Step.NOTHING, due
        # An unsubscription takes LiveKit 3 s at most: one that does not show was undone by the client between two
        # looks. The first one of a joiner may have come just before LiveKit subscribed it by itself.
        since = max(view.present_since, view.connected_at or 0.0)
        known = self.had_before or self.asked_at >= since + SETTLED_S
        undone = held and not self.wanted and (known or self.rounds > 1 or self.corrections.times > 0)
        return (Step.CORRECT if undone else Step.ASK), None
