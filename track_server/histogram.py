"""How long things took, counted for Prometheus."""

from bisect import bisect_left
from typing import Final

from prometheus_client.metrics_core import HistogramMetricFamily

# Upper bounds in seconds: what is answered from memory takes well under 1 ms, a permission service on the same machine
# 1 ms, and a command waits for evidence for up to 10 s and more.
_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Durations:
    """Plain numbers, changed on the event loop alone: a tenth of the price of the client library's own histogram, which
    locks at every change."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def took(self, seconds: float) -> None:
        """Something ended after so long."""
        self._counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def add_to(self, family: HistogramMetricFamily, labels: tuple[str, ...] = ()) -> None:
        """Adds what was counted so far. May be called from another thread."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, number in zip((*map(str, _BOUNDS_S), "+Inf"), list(self._counts), strict=True):
            total += number
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self._sum_s)
