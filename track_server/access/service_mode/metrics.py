"""How the permission service does, for Prometheus."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from track_server.histogram import Durations

_OUTCOMES: Final = ("allowed", "denied", "unavailable", "malformed")


@dataclass(slots=True)
class PermissionCounts:
    """What happened so far. Plain numbers, changed on the event loop alone."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    reports_sent: int = 0
    reports_dropped: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    durations: Durations = field(default_factory=Durations)
    """Of the calls of the service."""

    def answered(self, outcome: str) -> None:
        """A question ended: allowed, denied, unavailable, malformed."""
        self.checks[outcome] += 1


class PermissionClientMetrics(Collector):
    """Registers itself with the registry, which reads it at every scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        counts: PermissionCounts,
        *,
        connected: Callable[[], bool],
        entries: Callable[[], int],
    ) -> None:
        self._counts = counts
        self._connected = connected
        self._entries = entries
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand."""
        counts = self._counts
        yield GaugeMetricFamily(
            "track_permission_connected", "Whether the stream of changes is up.", value=int(self._connected())
        )
        checks = CounterMetricFamily("track_permission_checks", "Questions asked.", labels=("outcome",))
        for outcome in _OUTCOMES:
            checks.add_metric((outcome,), counts.checks[outcome])
        yield checks
        yield CounterMetricFamily(
            "track_permission_cache_hits", "Questions decided by what is kept.", value=counts.hits
        )
        yield CounterMetricFamily(
            "track_permission_cache_misses", "Questions that had to be asked.", value=counts.misses
        )
        yield GaugeMetricFamily("track_permission_cache_entries", "Decisions kept.", value=self._entries())
        yield CounterMetricFamily(
            "track_permission_stale_allows", "Allows that stood in for an answer that did not come.", value=counts.stale
        )
        seconds = HistogramMetricFamily("track_permission_decision_seconds", "How long the service took.")
        counts.durations.add_to(seconds)
        yield seconds
        reports = CounterMetricFamily("track_permission_reports", "Disagreements to report.", labels=("outcome",))
        reports.add_metric(("sent",), counts.reports_sent)
        reports.add_metric(("dropped",), counts.reports_dropped)
        yield reports
