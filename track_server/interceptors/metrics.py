"""Counts and durations of calls, for Prometheus, under the names that gRPC dashboards know."""

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from track_server.interceptors.context import Call, Handler
from track_server.interceptors.log import CODE_NAMES
from track_server.interceptors.method import Method

# Upper bounds in seconds: reads take well under 1 ms, commands wait for evidence for up to 10 s and more.
_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


@dataclass(slots=True)
class _Counts:
    """What happened to one RPC. Plain numbers, changed on the event loop alone: a tenth of the price of the client
    library's own counters, which lock at every change."""

    labels: tuple[str, str, str]
    in_flight: int = 0
    handled: dict[int, int] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_S) + 1))
    seconds: float = 0.0


class CallMetrics(Collector):
    """Counts calls; registers itself with the registry, which reads it at every scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: dict[str, _Counts] = {}
        self._refused: dict[str, int] = {}
        registry.register(self)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        counts = self._methods.setdefault(method.path, _Counts((method.kind, method.service, method.name)))
        handled, buckets = counts.handled, counts.buckets

        async def handle(request: Any, call: Call) -> Any:
            counts.in_flight += 1
            try:
                return await inner(request, call)
            finally:
                took = time.monotonic() - call.started
                counts.in_flight -= 1
                handled[call.code] = handled.get(call.code, 0) + 1
                buckets[bisect_left(_BOUNDS_S, took)] += 1
                counts.seconds += took
                counts.sent += call.sent
                counts.received += call.received
                if call.limit:
                    self._refused[call.limit] = self._refused.get(call.limit, 0) + 1

        return handle

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand. Messages of a stream are counted when it ends."""
        started = CounterMetricFamily("grpc_server_started", "Calls begun.", labels=_LABELS)
        handled = CounterMetricFamily("grpc_server_handled", "Calls ended.", labels=(*_LABELS, "grpc_code"))
        in_flight = GaugeMetricFamily("grpc_server_in_flight", "Calls being served.", labels=_LABELS)
        duration = HistogramMetricFamily("grpc_server_handling_seconds", "How long calls took.", labels=_LABELS)
        sent = CounterMetricFamily("grpc_server_msg_sent", "Messages sent in ended streams.", labels=_LABELS)
        received = CounterMetricFamily(
            "grpc_server_msg_received", "Messages received in ended streams.", labels=_LABELS
        )
        for counts in self._methods.values():
            labels = counts.labels
            codes = dict(counts.handled)
            started.add_metric(labels, sum(codes.values()) + counts.in_flight)
            in_flight.add_metric(labels, counts.in_flight)
            for code, number in codes.items():
                handled.add_metric((*labels, CODE_NAMES.get(code, str(code))), number)
            duration.add_metric(labels, *_histogram(counts))
            sent.add_metric(labels, counts.sent)
            received.add_metric(labels, counts.received)
        refused = CounterMetricFamily("track_limit_refusals", "Calls refused beyond a limit.", labels=("limit",))
        for limit, number in self._refused.items():
            refused.add_metric((limit,), number)
        yield from (started, handled, in_flight, duration, sent, received, refused)


def _histogram(counts: _Counts) -> tuple[list[tuple[str, float]], float]:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, number in zip((*map(str, _BOUNDS_S), "+Inf"), counts.buckets, strict=True):
        total += number
        buckets.append((bound, total))
    return buckets, counts.seconds
