"""What can be done, in which order, for which cause; and what a policy allows of it. Pure."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

OFF: Final = 0
LOW: Final = 1
MEDIUM: Final = 2
HIGH: Final = 3
"""Layers, as in the layer min (subscription/layers)."""


class Family(IntEnum):
    """Where the cause lies that a line of actions is about. Each has one ladder."""

    DOWNLINK = 1
    """A subscriber's network: all that it receives shares it."""
    RECEIVER = 2
    """A subscriber's machine."""
    UPLINK = 3
    """A publisher's network: acted on once, for all subscribers."""
    SENDER = 4
    """A publisher's machine."""
    MEDIA = 5
    """A track that brings nothing though its network is sound."""


class ActionKind(IntEnum):
    """What is done."""

    LIMIT_NETWORK = 1
    """The NETWORK term of the layer min."""
    LIMIT_CPU = 2
    """The CPU term."""
    CAP_PUBLISHER = 3
    """The PUBLISHER_CAP term, of every subscriber; the publisher sends no more."""
    VIDEO_OFF = 4
    """No video, so that sound has what there is."""
    RESTART = 5
    """The publication is begun anew. Never for congestion: a keyframe is the last thing that a full line needs."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is acted on as one. ``track_sid``: empty for all videos of ``identity``; MEDIA names one."""

    family: Family
    identity: str
    track_sid: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
    """One action. ``quality``: the highest layer that it leaves. ``after_s``: at least so long after the one before."""

    kind: ActionKind
    quality: int | None
    after_s: float


LADDERS: Final[dict[Family, tuple[Rung, ...]]] = {
    # Sound is saved last and by the longest look: without video there is nothing left to give.
    Family.DOWNLINK: (
        Rung(ActionKind.LIMIT_NETWORK, MEDIUM, 0),
        Rung(ActionKind.LIMIT_NETWORK, LOW, 3),
        Rung(ActionKind.VIDEO_OFF, OFF, 8),
    ),
    Family.RECEIVER: (Rung(ActionKind.LIMIT_CPU, MEDIUM, 0), Rung(ActionKind.LIMIT_CPU, LOW, 15)),
    Family.UPLINK: (
        Rung(ActionKind.CAP_PUBLISHER, MEDIUM, 0),
        Rung(ActionKind.CAP_PUBLISHER, LOW, 3),
        Rung(ActionKind.VIDEO_OFF, OFF, 8),
    ),
    Family.SENDER: (Rung(ActionKind.CAP_PUBLISHER, MEDIUM, 0), Rung(ActionKind.CAP_PUBLISHER, LOW, 15)),
    Family.MEDIA: (Rung(ActionKind.RESTART, None, 0),),
}
"""The rungs of each family, downwards. Machines are given settle and observe (15 s) between two steps: their relief
shows late."""

EVERYTHING: Final = frozenset(ActionKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Spans in seconds; the settings of quality adaptation."""

    step_s: float = 3.0
    """Between two steps down."""
    settle_s: float = 5.0
    """After an action until its effect is looked at: what was under way does not count."""
    observe_s: float = 10.0
    """How long it is looked at, and how long before it."""
    calm_s: float = 10.0
    """Of calm before a step up."""
    probe_s: float = 5.0
    """How long a step up can be taken back."""
    backoff_s: float = 10.0
    """After a first failed probe; each further one doubles it."""
    backoff_most_s: float = 120.0
    reversals: int = 3
    """So many turns from up to down..."""
    reversals_within_s: float = 300.0
    """...within so long freeze a line low..."""
    freeze_s: float = 120.0
    """...for so long."""
    blind_s: float = 120.0
    """After so long without a measurement nothing is limited any more: nobody could say that it helps."""
    budget: int = 20
    """Actions of a room..."""
    budget_s: float = 60.0
    """...in so long. Taking back a failed probe is always free."""

    @property
    def looked_back_s(self) -> float:
        """How far back a decision looks: at the calm before a probe, or at what an action did."""
        return max(self.calm_s + self.probe_s, self.observe_s)


@dataclass(frozen=True, slots=True)
class Policy:
    """``allowed``: which actions may be taken. ``floor``: the lowest layer that is left, LOW to HIGH; OFF with
    VIDEO_OFF allowed takes the picture away. ``hold_back``: the share of actions that is not taken, to compare, 0 to
    1. ``timing``: None: the room's."""

    allowed: frozenset[ActionKind] = EVERYTHING
    floor: int = OFF
    hold_back: float = 0.0
    timing: Timing | None = None

    def rungs(self, family: Family) -> tuple[Rung, ...]:
        """The ladder of ``family`` as far as it is allowed."""
        return tuple(
            rung
            for rung in LADDERS[family]
            if rung.kind in self.allowed and (rung.quality is None or rung.quality >= self.floor)
        )
