"""Counts and durations of calls, for Prometheus, under the names that gRPC dashboards know."""

import time
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

from track_server.histogram import Durations
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.log import CODE_NAMES
from track_server.interceptors.method import Method

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
    durations: Durations = field(default_factory=Durations)


class CallMetrics(Collector):
    """Counts calls; registers itself with the registry, which reads it at every scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: dict[str, _Counts] = {}
        self._refused: dict[str, int] = {}
        registry.register(self)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        counts = self._methods.setdefault(method.path, _Counts((method.kind, method.service, method.name)))
        handled, durations = counts.handled, counts.durations

        async def handle(request: Any, call: Call) -> Any:
            counts.in_flight += 1
            try:
                return await inner(request, call)
            finally:
                counts.in_flight -= 1
                handled[call.code] = handled.get(call.code, 0) + 1
                durations.took(time.monotonic() - call.started)
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
            counts.durations.add_to(duration, labels)
            sent.add_metric(labels, counts.sent)
            received.add_metric(labels, counts.received)
        refused = CounterMetricFamily("track_limit_refusals", "Calls refused beyond a limit.", labels=("limit",))
        for limit, number in self._refused.items():
            refused.add_metric((limit,), number)
        yield from (started, handled, in_flight, duration, sent, received, refused)
