"""How much of the time a track was as good as its policy asks. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Final

BUCKET_S: Final = 60.0
BUCKETS: Final = 60
"""An hour, by the minute."""

LONGEST_STEP_S: Final = 15.0
"""Time without a number for longer than this, in seconds, was not measured, and counts on neither side."""


@dataclass(slots=True)
class _Bucket:
    begin_s: float
    within_s: float = 0.0
    measured_s: float = 0.0


class Attainment:
    """The share of measured time within the target, over the last hour. Each number stands for the time before it."""

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)
        self._last_s: float | None = None

    def add(self, within: bool | None, now_s: float) -> float:
        """``within``: whether it is within the target now; None: not measured. Returns the seconds that this counts."""
        last_s, self._last_s = self._last_s, now_s
        if within is None or last_s is None or not 0 < now_s - last_s <= LONGEST_STEP_S:
            return 0.0
        begin_s = now_s - now_s % BUCKET_S
        if not self._buckets or self._buckets[-1].begin_s != begin_s:
            self._buckets.append(_Bucket(begin_s))
        bucket = self._buckets[-1]
        bucket.measured_s += now_s - last_s
        if within:
            bucket.within_s += now_s - last_s
        return now_s - last_s

    def seconds(self, now_s: float) -> tuple[float, float]:
        """Seconds within the target, and seconds measured, of the last hour."""
        # A copy: it is also read on another thread, for the metrics.
        recent = [bucket for bucket in list(self._buckets) if now_s - bucket.begin_s <= BUCKET_S * BUCKETS]
        return sum(bucket.within_s for bucket in recent), sum(bucket.measured_s for bucket in recent)
