"""What was told of a room's quality: reports, alerts, and LiveKit's own level. Pure: messages in, lists out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from google.protobuf import timestamp_pb2

from track.v1.event_pb2 import RoomEvent
from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_pb2 import QualityMeasurement, StreamQualityReportsResponse


@dataclass(frozen=True, slots=True)
class Flow:
    """One track on one hop (a QualityHop); ``identity``: the client's end of it."""

    track_sid: str
    hop: int
    identity: str


@dataclass(frozen=True, slots=True)
class Told:
    """A measurement of one flow over one window, as a report of ``time_s`` told it. Seconds UTC throughout."""

    time_s: float
    flow: Flow
    measurement: QualityMeasurement

    @property
    def window_s(self) -> float:
        """The span that it covers."""
        return self.measurement.window.ToNanoseconds() * 1e-9

    def span(self, age_s: float) -> tuple[float, float]:
        """Begin and end of that span, of a number that was so old."""
        end_s = self.time_s - age_s
        return end_s - self.window_s, end_s


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """An alert's life as a watcher learnt of it. ``kind``, ``fault``: the contract's. ``off_s``: None while on."""

    alert_id: str
    kind: int
    flow: Flow
    fault: int
    on_s: float
    off_s: float | None = None
    unproved: bool = False


@dataclass(frozen=True, slots=True)
class LiveKitLevel:
    """LiveKit's word (a ConnectionQuality) on a participant's connection; ``by``: who was told."""

    time_s: float
    identity: str
    level: int
    by: str


@dataclass(frozen=True, slots=True)
class Everything:
    """What was told in one run. ``levels``: the service's own, of each flow. ``recording``: lines as
    `track-server record` writes them."""

    reports: Sequence[Told] = ()
    alerts: Sequence[ToldAlert] = ()
    livekit: Sequence[LiveKitLevel] = ()
    levels: dict[Flow, list[tuple[float, int]]] = field(default_factory=dict)
    recording: Sequence[str] = ()


def measurements(response: StreamQualityReportsResponse) -> list[Told]:
    """All of one message."""
    time_s = seconds(response.time)
    return [
        Told(time_s, Flow(report.track_sid, each.hop, each.participant_identity), each)
        for report in response.reports
        for each in report.measurements
    ]


def alerts(events: Iterable[tuple[float, RoomEvent]]) -> list[ToldAlert]:
    """Lives of alerts, by when they were learnt of (seconds UTC). An end without a begin is left out."""
    found: dict[str, ToldAlert] = {}
    for time_s, event in events:
        kind = event.WhichOneof("change")
        if kind == "quality_alert_started":
            alert = event.quality_alert_started
            found[alert.alert_id] = _begun(alert, time_s)
        elif kind == "quality_alert_ended":
            alert = event.quality_alert_ended
            known = found.get(alert.alert_id)
            if known is not None:
                found[alert.alert_id] = replace(known, off_s=time_s, fault=alert.fault, unproved=alert.ended_unproved)
    return sorted(found.values(), key=lambda alert: alert.on_s)


def named_anew(known: Sequence[ToldAlert], listed: Iterable[QualityAlert]) -> list[ToldAlert]:
    """With whose fault they are taken to be by now: it may be told better than when they began."""
    faults = {alert.alert_id: alert.fault for alert in listed}
    return [replace(each, fault=faults.get(each.alert_id, each.fault)) for each in known]


def livekit_levels(events: Iterable[tuple[float, RoomEvent]]) -> list[LiveKitLevel]:
    """What LiveKit told the service's watcher of publishers."""
    return [
        LiveKitLevel(
            seconds(event.quality_changed.measure_time) or time_s,
            event.quality_changed.participant_identity,
            event.quality_changed.connection_quality,
            "service",
        )
        for time_s, event in events
        if event.WhichOneof("change") == "quality_changed"
    ]


def level_changes(events: Iterable[tuple[float, RoomEvent]]) -> dict[Flow, list[tuple[float, int]]]:
    """The service's own levels of each flow, by time."""
    found: dict[Flow, list[tuple[float, int]]] = {}
    for time_s, event in events:
        if event.WhichOneof("change") == "quality_level_changed":
            told = event.quality_level_changed
            flow = Flow(told.track_sid, told.hop, told.participant_identity)
            found.setdefault(flow, []).append((time_s, int(told.level)))
    return found


def seconds(stamp: timestamp_pb2.Timestamp) -> float:
    """Since 1970 UTC; 0 where it is not set."""
    return stamp.seconds + stamp.nanos * 1e-9


def _begun(alert: QualityAlert, time_s: float) -> ToldAlert:
    flow = Flow(alert.track_sid, alert.hop, alert.participant_identity)
    return ToldAlert(alert.alert_id, alert.kind, flow, alert.fault, time_s)
