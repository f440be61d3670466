"""How the permission service does, for Prometheus."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

# Upper bounds in seconds: a service on the same machine takes 1 ms, and none may take longer than 30 s.
_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
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
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_S) + 1))
    seconds: float = 0.0

    def answered(self, outcome: str) -> None:
        """A question ended: allowed, denied, unavailable, malformed."""
        self.checks[outcome] += 1

    def took(self, seconds: float) -> None:
        """A call of the service ended after so long."""
        self.buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class PermissionMetrics(Collector):
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
        seconds.add_metric((), *self._histogram())
        yield seconds
        reports = CounterMetricFamily("track_permission_reports", "Disagreements to report.", labels=("outcome",))
        reports.add_metric(("sent",), counts.reports_sent)
        reports.add_metric(("dropped",), counts.reports_dropped)
        yield reports

    def _histogram(self) -> tuple[list[tuple[str, float]], float]:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, number in zip((*map(str, _BOUNDS_S), "+Inf"), list(self._counts.buckets), strict=True):
            total += number
            buckets.append((bound, total))
        return buckets, self._counts.seconds
