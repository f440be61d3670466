"""Data tracks: what a hosted session pushed into one, over a window. Pure.

LiveKit tells nothing of how they arrive, so that frames and bytes pushed are all there is.
"""

from collections import deque
from dataclasses import dataclass

from track.media.v1.media_service_pb2 import HostedTrackStats
from track.v1.quality_pb2 import QUALITY_SOURCE_PUBLISHER_STATS, QualitySample
from track_server.durations import duration_of, seconds_of, timestamp_at
from track_server.quality.core.measuring.continuity import CLOCK_TOLERANCE_S, MAX_GAP_S
from track_server.quality.core.measuring.stream import HISTORY_S, MAX_READINGS, MIN_SPAN_S


@dataclass(frozen=True, slots=True)
class _Count:
    """``time_s``: the session's clock, seconds UTC. ``arrival_s``: monotonic."""

    time_s: float
    arrival_s: float
    frames: int
    size: int


class DataCounters:
    """Owner of the counts of one data track since its window began, bounded in time and number."""

    def __init__(self) -> None:
        self._counts: deque[_Count] = deque(maxlen=MAX_READINGS)

    def add(self, stats: HostedTrackStats, arrival_s: float) -> None:
        """Takes counters that arrived at ``arrival_s`` (monotonic). Those that continue nothing begin a new window."""
        if not (stats.HasField("measure_time") and stats.HasField("data")):
            return
        after = _Count(
            seconds_of(stats.measure_time),
            arrival_s,
            stats.data.frames_pushed,
            stats.data.bytes_pushed,
        )
        if self._counts:
            before = self._counts[-1]
            if after.time_s == before.time_s or (before.time_s - MAX_GAP_S <= after.time_s < before.time_s):
                return
            if _broken(before, after):
                self._counts.clear()
        self._counts.append(after)
        while after.time_s - self._counts[0].time_s > HISTORY_S:
            self._counts.popleft()

    def measured(self, now_s: float, max_age_s: float) -> bool:
        """Whether there is a window whose end arrived at most ``max_age_s`` before ``now_s`` (monotonic)."""
        return len(self._counts) > 1 and now_s - self._counts[-1].arrival_s <= max_age_s

    def sample(self, window_s: float, now_s: float) -> QualitySample | None:
        """The numbers over about the last ``window_s``; None where there are none of late. ``now_s``: monotonic."""
        if not self._counts or now_s - self._counts[-1].arrival_s > HISTORY_S:
            return None
        newest = self._counts[-1]
        sample = QualitySample(
            source=QUALITY_SOURCE_PUBLISHER_STATS,
            measure_time=timestamp_at(newest.time_s),
            age=duration_of(max(0.0, now_s - newest.arrival_s)),
        )
        spans = [(newest.time_s - count.time_s, count) for count in self._counts]
        fit = [(abs(span_s - window_s), span_s, count) for span_s, count in spans if span_s >= MIN_SPAN_S]
        if fit:
            _, span_s, base = min(fit, key=lambda entry: entry[0])
            sample.window.CopyFrom(duration_of(span_s))
            sample.frames_per_second = (newest.frames - base.frames) / span_s
            sample.bitrate_bps = 8.0 * (newest.size - base.size) / span_s
        return sample


def _broken(before: _Count, after: _Count) -> bool:
    """Whether the two cannot be differenced."""
    seconds = after.time_s - before.time_s
    return (
        not 0 < seconds <= MAX_GAP_S
        or abs(seconds - (after.arrival_s - before.arrival_s)) > CLOCK_TOLERANCE_S
        or after.frames < before.frames
        or after.size < before.size
    )
