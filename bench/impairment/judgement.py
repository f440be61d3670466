"""One run judged: what of it goes into which figure, and what is drawn of it. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.impairment import judging
from bench.impairment.judging import Error, Find
from bench.impairment.profiles import CALM_S, FREE, Hop, Incident
from bench.impairment.replayed import changes, recorded
from bench.impairment.run import Run
from bench.impairment.told import Flow, Told, ToldAlert
from bench.impairment.truth import lost
from track.v1.quality_alert_pb2 import (
    QUALITY_ALERT_KIND_CPU,
    QUALITY_FAULT_DEVICE,
    QUALITY_FAULT_PUBLISHER_UPLINK,
    QUALITY_FAULT_SUBSCRIBER_DOWNLINK,
    QUALITY_HOP_UPLINK,
    QualityAlertKind,
    QualityFault,
    QualityHop,
)
from track.v1.quality_pb2 import ConnectionQuality

SHORT_S: Final = 5.0
LONG_S: Final = 60.0
_DRAWN_S: Final = 2.0
_COMING_S: Final = 3.0
_SETTLED_S: Final = 10.0
"""The begin of a constant condition is its coming, and a change for everybody."""
_HOURS: Final = 2
_KINDS: Final = ("sound", "video")


@dataclass(slots=True)
class Judgement:
    """Of one run. Errors by figure; ``clean_s``: track-seconds on lines that nothing was done to, and ``false``: alerts
    there, CPU alerts apart (``cpu``: a busy machine has those). ``causes``: right, of all. ``replayed``: changes of
    alerts in hours of its readings. ``rtt_late``: round trips that are not judged, because the machine was late then.
    ``livekit_changes``, ``own_changes``: of the level, ours of sound. ``beside``:
    datagrams that the kernel dropped meanwhile, of which the relay knows nothing. ``drawn``: for the plots."""

    name: str
    profile: str
    hop: str
    tuned: bool
    load: dict[str, float]
    seconds: float
    loss_60: list[float] = field(default_factory=list)
    loss_5: list[float] = field(default_factory=list)
    rtt: list[float] = field(default_factory=list)
    rtt_late: int = 0
    bitrate: list[float] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    finds: list[Find] = field(default_factory=list)
    latency: str = ""
    clean_s: float = 0.0
    false: list[str] = field(default_factory=list)
    cpu: int = 0
    causes: tuple[int, int] = (0, 0)
    wrong_causes: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    border: bool = False
    replayed: list[int] = field(default_factory=list)
    constant_s: float = 0.0
    constant_changes: int | None = None
    livekit_changes: int | None = None
    own_changes: int | None = None
    livekit_said: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    beside: int = 0
    drawn: dict[str, Any] = field(default_factory=dict)


def judge(run: Run, own_ms: float) -> Judgement:
    """``own_ms``: what the relay adds to a round trip by itself."""
    planned, profile = run.planned, run.planned.profile
    made = Judgement(
        planned.name,
        profile.name,
        planned.hop,
        profile.tuned,
        asdict(run.load),
        run.end_s - run.begin_s,
        latency=profile.latency,
        border=profile.border,
        unmeasured=list(run.unmeasured),
    )
    for kind in _KINDS:
        flow = run.flow(kind)
        if flow is not None:
            _numbers(made, run, flow, own_ms)
            _found(made, run, _suffering(run, kind) or flow)
            made.replayed += _replayed(run, flow)
    _clean(made, run)
    _causes(made, run)
    _beside_livekit(made, run)
    made.alerts = [_said(alert, run) for alert in run.told.alerts]
    made.drawn = _drawn(run)
    return made


def _numbers(made: Judgement, run: Run, flow: Flow, own_ms: float) -> None:
    """Of the flow that is looked at, in the run's own time."""
    told = [each for each in run.told.reports if each.flow == flow and run.begin_s < each.time_s <= run.end_s]
    line = run.truth.lines.get(flow.identity)
    uplink = flow.hop == QUALITY_HOP_UPLINK
    streams = (run.truth.uplink if uplink else run.truth.downlink)(flow.track_sid, flow.identity)
    if not streams or line is None:
        made.unmeasured.append(f"no truth of {flow.identity}")
        return
    incident = run.planned.profile.incident
    if incident in (Incident.NONE, Incident.MUTED):
        counted = told if uplink else [each for each in told if not run.dead(each)]
        points, _ = judging.loss_errors(counted, streams, LONG_S)
        _, packets = judging.loss_errors(counted, streams, SHORT_S)
        made.loss_60 += _sizes(points)
        made.loss_5 += _sizes(packets)
        round_trips, late = judging.rtt_errors(told, line, own_ms)
        made.rtt += [judging.beyond_bound(error) for error in round_trips]
        made.rtt_late += late
    if incident is Incident.NONE:
        steady = [each for each in told if run.steady(each)]
        repairs = run.truth.repairs(flow.identity) if not uplink and flow.track_sid == run.tracks.get("video") else []
        rates = judging.bitrate_errors(steady, streams, SHORT_S, repairs)
        made.bitrate += [error.size / error.true for error in rates]
        if not _loses_frames(run):
            made.frames += _sizes(judging.frame_errors(steady, streams, SHORT_S))


def _loses_frames(run: Run) -> bool:
    """Where frames are lost beyond repair, what is decoded is not what passed: no truth of frames on a downlink."""
    return run.planned.hop is Hop.DOWNLINK and any(
        each.phase.bounds.loss or each.phase.bounds.dead or each.phase.bounds.rate_bps for each in run.happened
    )


def _suffering(run: Run, kind: str) -> Flow | None:
    """Who ought to notice: of a client that stands still nobody but its subscribers tells."""
    return run.flow(kind, Hop.DOWNLINK if run.planned.profile.incident is Incident.STOPPED else None)


def _found(made: Judgement, run: Run, flow: Flow) -> None:
    profile = run.planned.profile
    if not profile.finds:
        return
    of_it = [each for each in run.told.alerts if each.flow == flow]
    for number, each in enumerate(run.happened):
        if each.phase.impaired:
            until_s = run.happened[number + 1].end_s if number + 1 < len(run.happened) else run.end_s
            made.finds.append(judging.find(of_it, flow, profile.finds, each.begin_s, each.end_s, until_s))


def _replayed(run: Run, flow: Flow) -> list[int]:
    """Changes in hours of what was recorded at a constant condition."""
    if not run.planned.profile.constant:
        return []
    phase = (run.impaired or run.happened)[0]
    key = (flow.track_sid, flow.hop, flow.identity)
    found = recorded(run.told.recording, key, phase.begin_s + _COMING_S, phase.end_s)
    return [] if found is None else [changes(found, seed) for seed in range(_HOURS)]


def _clean(made: Judgement, run: Run) -> None:
    """Lines that nothing is done to: all in a clean run, all but the subscriber's where its downlink is impaired."""
    profile = run.planned.profile
    clean_run = all(each.phase.bounds == FREE for each in run.happened)
    right = profile.may | profile.finds
    if clean_run:
        suspects = list(run.told.alerts)
        flows = {each.flow for each in run.told.reports}
    elif run.planned.hop is Hop.DOWNLINK:
        touched = {run.flow(kind) for kind in _KINDS}
        suspects = [each for each in run.told.alerts if each.flow not in touched]
        flows = {each.flow for each in run.told.reports} - touched
        right = frozenset()
    else:
        calm_end_s = run.begin_s + CALM_S
        suspects = [each for each in run.told.alerts if each.on_s <= calm_end_s]
        flows = set()
    if profile.incident is Incident.NONE:
        made.clean_s = len(flows) * (run.end_s - run.begin_s)
    wrong = judging.false_alarms(suspects, right)
    made.cpu = sum(1 for each in wrong if each.kind == QUALITY_ALERT_KIND_CPU)
    made.false = [_said(each, run) for each in wrong if each.kind != QUALITY_ALERT_KIND_CPU]


def _causes(made: Judgement, run: Run) -> None:
    profile = run.planned.profile
    kinds = profile.finds | profile.may
    faults = _right_faults(run)
    of_it = [each for each in run.told.alerts if each.kind in kinds]
    made.causes = judging.right_causes(of_it, kinds, faults)
    made.wrong_causes = [_said(each, run) for each in of_it if each.fault not in faults]


def _right_faults(run: Run) -> Collection[int]:
    incident = run.planned.profile.incident
    if incident is Incident.SILENCE:
        return (QUALITY_FAULT_DEVICE,)
    if incident is Incident.STOPPED:
        # From outside a machine that stands still and a line that is cut are one.
        return (QUALITY_FAULT_PUBLISHER_UPLINK, QUALITY_FAULT_DEVICE)
    return (QUALITY_FAULT_PUBLISHER_UPLINK,) if run.planned.hop is Hop.UPLINK else (QUALITY_FAULT_SUBSCRIBER_DOWNLINK,)


def _beside_livekit(made: Judgement, run: Run) -> None:
    """On the impaired time of a constant profile (all of a clean one)."""
    phases = run.impaired or run.happened
    begin_s, end_s = phases[0].begin_s, phases[-1].end_s
    identity = "publisher" if run.planned.hop is Hop.UPLINK else run.subscriber
    said = judging.livekit_said(run.told.livekit, identity, begin_s, end_s)
    made.livekit_said = sorted(_level_name(level) for level in said)
    flow = run.flow("sound")
    if not run.planned.profile.constant or flow is None:
        return
    begin_s += _SETTLED_S
    made.constant_s = end_s - begin_s
    made.constant_changes = judging.alert_changes(
        [each for each in run.told.alerts if each.flow == flow], begin_s, end_s
    )
    made.own_changes = sum(1 for at_s, _ in run.told.levels.get(flow, []) if begin_s < at_s <= end_s)
    if said:
        made.livekit_changes = judging.livekit_changes(run.told.livekit, identity, begin_s, end_s)


def _drawn(run: Run) -> dict[str, Any]:
    """Loss over 5 s as told and as it was, of sound (of video, where there is none), and the alerts on that flow."""
    kind = "sound" if "sound" in run.tracks else "video"
    flow = run.flow(kind)
    assert flow is not None
    uplink = flow.hop == QUALITY_HOP_UPLINK
    streams = (run.truth.uplink if uplink else run.truth.downlink)(flow.track_sid, flow.identity)
    said = [
        (round(each.time_s - run.begin_s, 1), _loss_percent(each))
        for each in run.told.reports
        if each.flow == flow and abs(each.window_s - SHORT_S) < 1 and run.begin_s <= each.time_s <= run.end_s
    ]
    steps = int((run.end_s - run.begin_s) / _DRAWN_S)
    true = [
        (round(at_s, 1), round(lost(streams, run.begin_s + at_s - SHORT_S, run.begin_s + at_s).percent, 2))
        for at_s in (number * _DRAWN_S for number in range(1, steps + 1))
    ]
    spans = [
        (
            _short(QualityAlertKind.Name(each.kind), "QUALITY_ALERT_KIND_"),  # type: ignore[arg-type]  # its number
            round(each.on_s - run.begin_s, 1),
            None if each.off_s is None else round(each.off_s - run.begin_s, 1),
        )
        for each in run.told.alerts
        if each.flow == flow
    ]
    phases = [
        (round(each.begin_s - run.begin_s, 1), round(each.end_s - run.begin_s, 1))
        for each in run.happened
        if each.phase.impaired or each.phase.bounds != FREE
    ]
    return {
        "kind": kind,
        "told": [each for each in said if each[1] is not None],
        "true": true,
        "alerts": spans,
        "phases": phases,
    }


def _loss_percent(told: Told) -> float | None:
    for name in ("loss_before_repair", "loss_after_repair"):
        if told.measurement.HasField(name):
            percent: float = getattr(told.measurement, name).percent
            return round(percent, 2)
    return None


def _said(alert: ToldAlert, run: Run) -> str:
    kind = _short(QualityAlertKind.Name(alert.kind), "QUALITY_ALERT_KIND_")  # type: ignore[arg-type]  # its number
    fault = _short(QualityFault.Name(alert.fault), "QUALITY_FAULT_")  # type: ignore[arg-type]  # its number
    hop = _short(QualityHop.Name(alert.flow.hop), "QUALITY_HOP_")  # type: ignore[arg-type]  # its number
    track = next((kind for kind, sid in run.tracks.items() if sid == alert.flow.track_sid), "?")
    who = {"publisher": "publisher", run.subscriber: "subscriber", run.other: "other"}.get(alert.flow.identity, "?")
    ended = "on" if alert.off_s is None else f"{alert.off_s - run.begin_s:.1f}{' unproved' if alert.unproved else ''}"
    return f"{kind} {hop} {track} of {who}, {fault}, {alert.on_s - run.begin_s:.1f} to {ended}"


def _level_name(level: int) -> str:
    return _short(ConnectionQuality.Name(level), "CONNECTION_QUALITY_")  # type: ignore[arg-type]  # its number


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _sizes(errors: Sequence[Error]) -> list[float]:
    return [error.size for error in errors]
