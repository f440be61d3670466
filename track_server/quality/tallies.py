"""Quality in numbers, for Prometheus: alerts, actions, and how well targets are attained."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_policy_pb2 import QualityAction
from track_server.quality.attainments import Attained

MOST_SERIES: Final = 2000
"""Rooms, and tracks, of which the attainment is told at most; the worst first."""

Detail = Literal["off", "rooms", "tracks"]


class Tallies:
    """The metrics that name neither rooms nor tracks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._alerts = Counter(
            "track_quality_alerts",
            "Quality alerts that ended, by whose fault it was taken to be.",
            ("kind", "fault"),
            registry=registry,
        )
        self._on = Gauge("track_quality_alerts_on", "Quality alerts that are on.", ("kind",), registry=registry)
        self._verdicts = Counter(
            "track_quality_verdicts",
            "Actions of quality adaptation that are judged, by what they did. held_back: not done, to compare.",
            ("kind", "verdict", "held_back"),
            registry=registry,
        )
        self._measured = Counter(
            "track_quality_measured_seconds",
            "Seconds in which a target of a track's quality policy was measured.",
            registry=registry,
        )
        self._within = Counter(
            "track_quality_within_seconds",
            "Those of them in which all targets held.",
            registry=registry,
        )

    def alert_started(self, alert: QualityAlert) -> None:
        """One went on."""
        self._on.labels(_name(alert, "kind")).inc()

    def alert_ended(self, alert: QualityAlert) -> None:
        """One went off."""
        kind = _name(alert, "kind")
        self._on.labels(kind).dec()
        self._alerts.labels(kind, _name(alert, "fault")).inc()

    def action_judged(self, action: QualityAction) -> None:
        """What an action did is known."""
        kind, verdict = _name(action, "kind"), _name(action, "verdict")
        self._verdicts.labels(kind, verdict, str(action.held_back).lower()).inc()

    def passed(self, seconds: float, within: bool) -> None:
        """So long something was measured, within the targets or not."""
        self._measured.inc(seconds)
        if within:
            self._within.inc(seconds)


class AttainmentMetrics(Collector):
    """Gauges of each room, and of each track where ``detail`` asks for them. Read on a thread of the metrics' own."""

    def __init__(self, attained: Callable[[], Iterable[Attained]], detail: Detail) -> None:
        self._attained = attained
        self._detail = detail

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        rooms = GaugeMetricFamily(
            "track_quality_room_attainment_ratio",
            "Share of the measured time of the last hour within the targets of its quality policies.",
            labels=("room",),
        )
        tracks = GaugeMetricFamily(
            "track_quality_attainment_ratio",
            "Share of a track's measured time of the last hour within the targets of its quality policy.",
            labels=("room", "track"),
        )
        if self._detail != "off":
            found = list(self._attained())
            sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for one in found:
                sums[one.room][0] += one.within_s
                sums[one.room][1] += one.measured_s
            _fill(rooms, (((room,), within_s / measured_s) for room, (within_s, measured_s) in sums.items()))
            if self._detail == "tracks":
                _fill(tracks, (((one.room, one.track_sid), one.within_s / one.measured_s) for one in found))
        yield rooms
        yield tracks


def _fill(family: GaugeMetricFamily, ratios: Iterable[tuple[tuple[str, ...], float]]) -> None:
    for labels, ratio in sorted(ratios, key=lambda each: each[1])[:MOST_SERIES]:
        family.add_metric(labels, ratio)


def _name(message: Message, field: str) -> str:
    """The value of an enum's field: `QUALITY_FAULT_DEVICE` as `device`."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum is not None
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(enum.values_by_number[getattr(message, field)].name).removeprefix(prefix).lower()
