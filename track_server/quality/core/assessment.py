"""A room's quality at one moment: its tracks, what is wrong and whose fault it is, and what is done. Pure.

Readings come in as they arrive; `tick`, once a second, looks at all of it. The same readings and times give the same
answer, so a recorded file replays as it was.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from track_server.quality.core.adapting.action import Action
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.routing import Finding, routed
from track_server.quality.core.detecting.attribution import Attribution, Fault, Sufferer
from track_server.quality.core.detecting.detection import Change
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Reading
from track_server.quality.core.scoring.level import Level
from track_server.quality.core.watch import Seen, Subject, Watch

AT_ONCE: Final = 25
"""So many hops are looked at without a pause: some 5 ms."""

_SHARED: Final = frozenset({Fault.PUBLISHER_UPLINK, Fault.SERVER})


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that went on or off, and whose fault it is taken to be."""

    flow: Flow
    change: Change
    fault: Fault


@dataclass(frozen=True, slots=True)
class Assessed:
    """One tick. ``seen``: by flow. ``levels``: those that changed; None: there is none any more."""

    seen: Mapping[Flow, Seen] = field(default_factory=dict)
    levels: Mapping[Flow, Level | None] = field(default_factory=dict)
    alerts: Sequence[Alert] = ()
    actions: Sequence[Action] = ()


class Assessment:
    """Owner of the watches of one room. ``adaptation``: None where nothing is to be done."""

    def __init__(self, adaptation: Adaptation | None = None) -> None:
        self.adaptation = adaptation
        self._watches: dict[Flow, Watch] = {}
        self._levels: dict[Flow, Level | None] = {}
        self._faults: dict[tuple[Flow, AlertKind], Fault] = {}

    @property
    def watches(self) -> Mapping[Flow, Watch]:
        """What is watched."""
        return self._watches

    @property
    def faults(self) -> Mapping[tuple[Flow, AlertKind], Fault]:
        """Whose fault each alert that is on is taken to be, as of the last tick."""
        return self._faults

    def begin(self, flow: Flow, subject: Subject) -> Watch:
        """Begins to watch, or goes on."""
        watch = self._watches.get(flow)
        if watch is None or watch.subject != subject:
            watch = self._watches[flow] = Watch(flow, subject)
        return watch

    def end(self, flow: Flow) -> None:
        """The track, or its subscription, is gone."""
        self._watches.pop(flow, None)
        self._levels.pop(flow, None)
        for key in [key for key in self._faults if key[0] == flow]:
            del self._faults[key]

    def add(self, flow: Flow, readings: Sequence[Reading]) -> bool:
        """Takes the readings of one source; False where that flow is not watched."""
        watch = self._watches.get(flow)
        if watch is not None:
            watch.add(readings)
        return watch is not None

    def expect(self, flow: Flow, expected: Expected) -> None:
        """Whether media ought to come."""
        watch = self._watches.get(flow)
        if watch is not None:
            watch.expect(expected)

    def receives(self, flow: Flow, layer: int | None) -> None:
        """Which layer arrives, by LiveKit's debug view."""
        watch = self._watches.get(flow)
        if watch is not None:
            watch.received = layer

    def tick(self, now_s: float) -> Assessed:
        """Looks at all, once a second; ``now_s``: monotonic, never falling."""
        steps = self.ticking(now_s)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                assessed: Assessed = end.value
                return assessed

    def ticking(self, now_s: float) -> Generator[None, None, Assessed]:
        """``tick`` in steps. What begins or ends between two of them is not in its answer."""
        hops = self._rtts(now_s)
        looked: dict[Flow, tuple[Watch, Seen]] = {}
        for number, (flow, watch) in enumerate(list(self._watches.items()), start=1):
            rtt_ms = hops.get(flow.track_sid, 0.0) if flow.hop is Hop.DOWNLINK else 0.0
            looked[flow] = watch, watch.tick(now_s, rtt_ms)
            if number % AT_ONCE == 0:
                yield
        watches = {flow: watch for flow, (watch, _) in looked.items() if self._watches.get(flow) is watch}
        seen = {flow: looked[flow][1] for flow in watches}
        attribution = Attribution(
            {
                flow: Sufferer(
                    flow, watch.subject.publisher, watch.suspicions, watch.measured(now_s), watch.ceased(now_s)
                )
                for flow, watch in watches.items()
            }
        )
        alerts = [
            Alert(flow, change, self._fault(flow, change.kind, attribution, ended=not change.on))
            for flow, each in seen.items()
            for change in each.changes
        ]
        found = {
            flow: {kind: self._fault(flow, kind, attribution) for kind in watch.alerts}
            for flow, watch in watches.items()
        }
        self._faults = {(flow, kind): fault for flow, kinds in found.items() for kind, fault in kinds.items()}
        levels = self._changed(seen)
        if self.adaptation is None:
            return Assessed(seen, levels, alerts)
        findings = [
            Finding(
                flow,
                watch.subject.publisher,
                found[flow],
                seen[flow].fresh,
                watch.received,
                watch.since_s,
            )
            for flow, watch in watches.items()
        ]
        return Assessed(seen, levels, alerts, self.adaptation.step(routed(findings), now_s))

    def _fault(self, flow: Flow, kind: AlertKind, attribution: Attribution, *, ended: bool = False) -> Fault:
        """Whose fault an alert is. Once it is seen to be shared it stays so: sufferers do not recover all at once. The
        publisher's own numbers may come last, so that what seemed the server's is the publisher's after all."""
        known = self._faults.get((flow, kind))
        if known is not None and ended:
            return known
        fault = attribution.fault(flow, kind)
        if known is None or known not in _SHARED or fault is Fault.PUBLISHER_UPLINK:
            return fault
        return known

    def _changed(self, seen: Mapping[Flow, Seen]) -> dict[Flow, Level | None]:
        changed = {flow: each.level for flow, each in seen.items() if self._levels.get(flow) is not each.level}
        self._levels.update(changed)
        return changed

    def _rtts(self, now_s: float) -> dict[str, float]:
        """The uplinks' round trips by track, for the delay that a subscriber hears."""
        return {
            flow.track_sid: watch.rtt_ms
            for flow, watch in self._watches.items()
            if flow.hop is Hop.UPLINK and watch.rtt_ms is not None and watch.measured(now_s)
        }
