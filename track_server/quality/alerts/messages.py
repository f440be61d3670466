"""Alerts as the contract has them. Pure."""

from typing import Final

from track.v1.quality_alert_pb2 import QualityAlert, QualityEvidence, QualityFault
from track.v1.quality_alert_pb2 import QualityAlertKind as Kind
from track_server.durations import timestamp_at
from track_server.quality.clock import Moment
from track_server.quality.core.detecting.attribution import Fault
from track_server.quality.core.detecting.detection import Evidence
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow
from track_server.quality.messages import HOPS

UNITS: Final = {
    AlertKind.NETWORK_LOSS: "percent",
    AlertKind.SEVERE_LOSS: "percent",
    AlertKind.BAD_AUDIO: "percent",
    AlertKind.DELAY: "ms",
    AlertKind.CONGESTION: "ms",
    AlertKind.STALLED: "s",
    AlertKind.INTERRUPTED: "s",
    AlertKind.STUCK_DECODER: "s",
    AlertKind.SILENT_SOURCE: "s",
    AlertKind.BLACK_SOURCE: "s",
    AlertKind.FLAPPING: "changes",
}
"""Of what an alert's evidence reads. The others read whether something is so, which is no number."""

FAULTS: Final[dict[Fault, QualityFault.ValueType]] = {
    Fault.UNKNOWN: QualityFault.QUALITY_FAULT_UNKNOWN,
    Fault.PUBLISHER_UPLINK: QualityFault.QUALITY_FAULT_PUBLISHER_UPLINK,
    Fault.SUBSCRIBER_DOWNLINK: QualityFault.QUALITY_FAULT_SUBSCRIBER_DOWNLINK,
    Fault.DEVICE: QualityFault.QUALITY_FAULT_DEVICE,
    Fault.SERVER: QualityFault.QUALITY_FAULT_SERVER,
}

KINDS: Final[dict[AlertKind, Kind.ValueType]] = {
    kind: Kind.Value(f"QUALITY_ALERT_KIND_{kind.name}") for kind in AlertKind
}


def started(alert_id: str, flow: Flow, kind: AlertKind, publisher: str, moment: Moment) -> QualityAlert:
    """An alert that goes on at ``moment``, of which neither fault nor evidence is said yet."""
    return QualityAlert(
        alert_id=alert_id,
        kind=KINDS[kind],
        track_sid=flow.track_sid,
        hop=HOPS[flow.hop],
        participant_identity=flow.identity,
        publisher_identity=publisher,
        start_time=timestamp_at(moment.time_s),
    )


def told(base: QualityAlert, kind: AlertKind, fault: Fault, evidence: Evidence, moment: Moment) -> QualityAlert:
    """A copy of ``base`` with that fault and evidence."""
    alert = QualityAlert()
    alert.CopyFrom(base)
    alert.fault = FAULTS[fault]
    alert.evidence.CopyFrom(_evidence(kind, evidence, moment))
    return alert


def ended(alert: QualityAlert, moment: Moment, *, proved: bool) -> QualityAlert:
    """A copy that ends at ``moment``; ``proved``: whether something showed that it is over."""
    last = QualityAlert()
    last.CopyFrom(alert)
    last.end_time.CopyFrom(timestamp_at(moment.time_s))
    last.ended_unproved = not proved
    return last


def _evidence(kind: AlertKind, evidence: Evidence, moment: Moment) -> QualityEvidence:
    message = QualityEvidence(
        part=evidence.part,
        whole=evidence.whole,
        since_time=timestamp_at(moment.time_s - max(0.0, moment.monotonic_s - evidence.since_s)),
        unit=UNITS.get(kind, ""),
    )
    if kind in UNITS:
        message.value = evidence.value
    return message
