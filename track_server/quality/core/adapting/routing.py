"""Which line an alert belongs to, and what each line is told. Pure.

One fault has one line: where it is the publisher's, its subscribers' lines stay still.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from track_server.quality.core.adapting.ladder import Family, Line
from track_server.quality.core.adapting.measure import Measure, total
from track_server.quality.core.adapting.view import View
from track_server.quality.core.detecting.attribution import Fault
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow, Hop

NETWORK: Final = frozenset(
    {
        AlertKind.NETWORK_LOSS,
        AlertKind.SEVERE_LOSS,
        AlertKind.DELAY,
        AlertKind.CONGESTION,
        AlertKind.BAD_AUDIO,
    }
)
"""What fewer bits may help. Not LOW_BANDWIDTH: there the encoder, or LiveKit, is doing so already."""

GONE: Final = frozenset({AlertKind.STALLED, AlertKind.STUCK_DECODER})
"""What a restart may help, where the network is sound."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One track on one hop at one moment. ``faults``: the alerts that are on, and whose fault each is. ``fresh``: what
    was measured since the last. ``received``: the layer that arrives of a video, None unknown.
    ``since_s``: from when on the evidence of its alerts is."""

    flow: Flow
    publisher: str
    faults: dict[AlertKind, Fault]
    fresh: Measure
    received: int | None = None
    since_s: float | None = None


def routed(findings: Sequence[Finding]) -> dict[Line, View]:
    """What each line is told. Lines without trouble are there as well: their calm is measured too."""
    reasons: dict[Line, set[AlertKind]] = {}
    measures: dict[Line, list[Measure]] = {}
    received: dict[Line, int] = {}
    since: dict[Line, float] = {}
    unwell: set[Line] = set()
    told = {each.publisher for each in findings if each.flow.hop is Hop.UPLINK and each.fresh.seconds > 0}
    for finding in findings:
        flow = finding.flow
        here = Family.UPLINK if flow.hop is Hop.UPLINK else Family.DOWNLINK
        own = Line(here, flow.identity)
        machine = Line(Family.SENDER if flow.hop is Hop.UPLINK else Family.RECEIVER, flow.identity)
        media = Line(Family.MEDIA, finding.publisher, flow.track_sid)
        for line in (own, machine, media):
            measures.setdefault(line, []).append(finding.fresh)
        if flow.hop is Hop.DOWNLINK and finding.publisher and finding.publisher not in told:
            # Nobody measures its uplink: what is lost there is lost to all who receive it.
            measures.setdefault(Line(Family.UPLINK, finding.publisher), []).append(finding.fresh)
        if finding.received is not None:
            received[own] = max(received.get(own, 0), finding.received)
        for kind, fault in finding.faults.items():
            concerned = _line(finding, kind, fault, own, machine, media)
            if concerned is not None:
                reasons.setdefault(concerned, set()).add(kind)
                if finding.since_s is not None:
                    since[concerned] = min(finding.since_s, since.get(concerned, finding.since_s))
            if kind in NETWORK:
                unwell.add(media)
    return {
        line: _view(
            found[0] if len(found) == 1 else total(found),
            reasons.get(line),
            received.get(line),
            since.get(line),
            congested=line in unwell,
        )
        for line, found in measures.items()
    }


def _line(finding: Finding, kind: AlertKind, fault: Fault, own: Line, machine: Line, media: Line) -> Line | None:
    if fault is Fault.SERVER:
        return None
    if kind in GONE:
        return None if fault is Fault.SUBSCRIBER_DOWNLINK else media
    if kind is AlertKind.CPU:
        return machine
    if kind not in NETWORK or (kind is AlertKind.BAD_AUDIO and fault is Fault.UNKNOWN):
        # Sound that several make up though no packets are lost: fewer bits are no help that anybody knows of.
        return None
    if fault is Fault.PUBLISHER_UPLINK:
        return own if own.family is Family.UPLINK else Line(Family.UPLINK, finding.publisher)
    return own if own.family is Family.DOWNLINK else None


def _view(
    fresh: Measure, reasons: set[AlertKind] | None, received: int | None, since_s: float | None, *, congested: bool
) -> View:
    if reasons is None:
        return View(reasons=frozenset(), fresh=fresh, received=received, congested=congested)
    return View(
        reasons=frozenset(reasons),
        fresh=replace(fresh, troubled_s=fresh.seconds),
        received=received,
        congested=congested,
        since_s=since_s,
    )
