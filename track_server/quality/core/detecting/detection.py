"""Runs the detectors of the table over what is told of one track on one hop. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from track_server.quality.core.detecting.table import DETECTORS, AlertKind, Detector, Sequential, Steady
from track_server.quality.core.measuring.losses import Packets
from track_server.quality.core.measuring.reading import Hop, Media

GAP_S: Final = 15.0
"""What was weighed before a gap of so many seconds says nothing of now; an alert that is on ends unproved."""

_STEP_UP: Final = 0.6
_STEP_DOWN: Final = 1 / 8

_LEANS: Final = 0.35
"""From this share of what is needed on, it is a suspicion."""

_LEANS_TIME: Final = 0.43
"""Likewise of a time: 2 s of STALLED's, which is longer than LiveKit's reports are apart."""

_CLUMPING_OFF: Final = 3.5
"""The most that is discounted of evidence that it is over: of sound, 28 s without loss tell, whatever the bursts
before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known at one moment. ``loss``, ``concealed``: what came since the last facts, each packet (or frame of
    20 ms) told once; ``clumping``: so many lost ones make one piece of evidence. None: not told."""

    loss: Packets | None = None
    concealed: Packets | None = None
    clumping: float = 1.0
    rtt_ms: float | None = None
    rtt_rise_ms: float | None = None
    stalled_s: float | None = None
    gap_s: float | None = None
    stuck_s: float | None = None
    cpu_limited: float | None = None
    cpu_load: float | None = None
    bandwidth_limited: float | None = None
    silent_s: float | None = None
    black_s: float | None = None
    level_changes: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an alert rests on. ``part`` of ``whole``: packets (frames of 20 ms, readings) that speak for it, from
    ``since_s`` on (monotonic). ``value``: the number that did it: a percentage, or in the unit of what is read."""

    part: float
    whole: float
    since_s: float
    value: float


class Change(NamedTuple):
    """An alert that went on or off. ``proved``: False where it went off because nothing is measured any more."""

    kind: AlertKind
    on: bool
    evidence: Evidence
    proved: bool = True


class Detection:
    """Owner of the detectors of one track on one hop."""

    def __init__(self, hop: Hop, media: Media, table: Iterable[Detector] = DETECTORS) -> None:
        entries = [entry for entry in table if hop in entry.hops and media in entry.media]
        self._tests: Sequence[_Weighing | _Watching] = [
            _Weighing(entry) if isinstance(entry, Sequential) else _Watching(entry) for entry in entries
        ]
        self._active: dict[AlertKind, Evidence] = {}

    def add(self, facts: Facts, now_s: float) -> list[Change]:
        """Takes the facts of ``now_s`` (monotonic, never falling) and says what went on or off."""
        changes = [change for test in self._tests if (change := test.add(facts, now_s)) is not None]
        for change in changes:
            if change.on:
                self._active[change.kind] = change.evidence
            else:
                del self._active[change.kind]
        return changes

    @property
    def active(self) -> Mapping[AlertKind, Evidence]:
        """The alerts that are on."""
        return self._active

    def leaning(self) -> frozenset[AlertKind]:
        """Those that are on, and those for which much speaks already."""
        return frozenset(test.kind for test in self._tests if test.evidence is not None or test.leans)

    def end(self) -> list[Change]:
        """Nothing ought to come any more: what is on ends, unproved."""
        ended = [Change(kind, False, evidence, proved=False) for kind, evidence in self._active.items()]
        self._active.clear()
        for test in self._tests:
            test.evidence = None
            test.reset()
        return ended

    def reset(self) -> None:
        """The line begins anew: nothing is weighed yet. Alerts that are on stay until they are shown to be over."""
        for test in self._tests:
            test.reset()


class _Weighing:
    """A sequential test of packets."""

    __slots__ = (
        "_all",
        "_begin_s",
        "_entry",
        "_gain",
        "_lost",
        "_miss",
        "_off_until_s",
        "_seen_s",
        "_ungain",
        "_unmiss",
        "_weight",
        "evidence",
        "kind",
    )  # fmt: skip

    def __init__(self, entry: Sequential) -> None:
        self.kind = entry.kind
        self.evidence: Evidence | None = None
        self._entry = entry
        self._gain, self._miss = _weights(entry.on)
        self._ungain, self._unmiss = _weights(entry.off)
        self._weight = 0.0
        self._lost = 0.0
        self._all = 0.0
        self._begin_s = math.nan
        self._seen_s = -math.inf
        self._off_until_s = -math.inf

    def add(self, facts: Facts, now_s: float) -> Change | None:
        packets = facts.loss if self._entry.reads == "loss" else facts.concealed
        if packets is None or packets.expected <= 0:
            return None
        if now_s - self._seen_s > GAP_S and self.evidence is None:
            self._begin(now_s)
        self._seen_s = now_s
        self._lost += packets.lost
        self._all += packets.expected
        entry = self._entry
        if self.evidence is None:
            step = (packets.lost * self._gain + (packets.expected - packets.lost) * self._miss) / facts.clumping
            weight = self._weight + min(step, entry.on_at * _STEP_UP)
            if weight <= 0:
                self._begin(now_s)
                return None
            self._weight = weight
            if weight < entry.on_at or self._lost < entry.least or now_s < self._off_until_s:
                self._weight = min(weight, entry.on_at)
                return None
            self.evidence = self._shown()
            self._weight = entry.off_at
            return Change(self.kind, True, self.evidence)
        step = (packets.lost * self._ungain + (packets.expected - packets.lost) * self._unmiss) / min(
            facts.clumping, _CLUMPING_OFF
        )
        self._weight = min(entry.off_at, self._weight + max(step, -entry.off_at * _STEP_DOWN))
        if self._weight == entry.off_at:
            self._count(now_s)
        if self._weight > 0:
            return None
        shown = self._shown()
        self.evidence = None
        self._off_until_s = now_s + entry.cool_down_s
        self._begin(now_s)
        return Change(self.kind, False, shown)

    @property
    def leans(self) -> bool:
        return self._weight >= _LEANS * self._entry.on_at

    def reset(self) -> None:
        if self.evidence is None:
            self._weight = 0.0

    def _begin(self, now_s: float) -> None:
        self._weight = 0.0
        self._count(now_s)

    def _count(self, now_s: float) -> None:
        """From here on packets speak for the next change."""
        self._lost = self._all = 0.0
        self._begin_s = now_s

    def _shown(self) -> Evidence:
        return Evidence(max(0.0, self._lost), self._all, self._begin_s, 100.0 * max(0.0, self._lost) / self._all)


class _Watching:
    """A number that stays beyond a threshold."""

    __slots__ = ("_count", "_entry", "_is_time", "_near", "_off_until_s", "_seen_s", "_since_s", "evidence", "kind")

    def __init__(self, entry: Steady) -> None:
        self.kind = entry.kind
        self.evidence: Evidence | None = None
        self._entry = entry
        self._is_time = entry.reads.endswith("_s")
        self._near = False
        self._since_s: float | None = None
        self._seen_s = -math.inf
        self._count = 0
        self._off_until_s = -math.inf

    def add(self, facts: Facts, now_s: float) -> Change | None:
        entry = self._entry
        value: float | None = getattr(facts, entry.reads)
        if value is None:
            return None
        if now_s - self._seen_s > GAP_S:
            self.reset()
        self._seen_s = now_s
        self._near = self._is_time and value >= _LEANS_TIME * entry.on
        on = self.evidence is not None
        if value > entry.off if on else value < entry.on:
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s, self._count = now_s, 0
        self._count += 1
        if now_s - self._since_s < (entry.off_s if on else entry.on_s) or self._count < entry.least:
            return None
        if not on and now_s < self._off_until_s:
            return None
        # What is itself a time began so long ago.
        begin_s = self._since_s - value if self._is_time and not on else self._since_s
        shown = Evidence(self._count, self._count, begin_s, value)
        self._since_s = None
        self.evidence = None if on else shown
        if on:
            self._off_until_s = now_s + entry.cool_down_s
        return Change(self.kind, not on, shown)

    @property
    def leans(self) -> bool:
        return self.evidence is None and (self._near or self._since_s is not None)

    def reset(self) -> None:
        self._since_s = None
        self._near = False


def _weights(shares: tuple[float, float]) -> tuple[float, float]:
    """What a lost packet adds, and one that came (below 0)."""
    low, high = shares
    return math.log(high / low), math.log((1 - high) / (1 - low))
