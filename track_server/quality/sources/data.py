"""Data tracks: what a hosted session pushed into one, over a window. Pure.

LiveKit tells nothing of how they arrive, so that frames and bytes pushed are all there is.
"""

from track.media.v1.media_service_pb2 import HostedTrackStats
from track.v1.quality_pb2 import QUALITY_SOURCE_PUBLISHER_STATS, QualitySample
from track_server.durations import duration_of, seconds_of, timestamp_at
from track_server.quality.core.measuring.reading import Hop, Reading, Source
from track_server.quality.core.measuring.stream import Stream


class DataCounters:
    """Owner of the counters of one data track, which are differenced as those of RTP streams are."""

    def __init__(self) -> None:
        self._stream = Stream(Hop.UPLINK, media_video=False)

    def add(self, stats: HostedTrackStats, arrival_s: float) -> None:
        """Takes counters that arrived at ``arrival_s`` (monotonic). Those that continue nothing begin a new window."""
        if not (stats.HasField("measure_time") and stats.HasField("data")):
            return
        reading = Reading(
            source=Source.PUBLISHER_STATS,
            ssrc=0,
            time_s=seconds_of(stats.measure_time),
            arrival_s=arrival_s,
            payload_bytes=stats.data.bytes_pushed,
            frames=stats.data.frames_pushed,
        )
        self._stream.add(reading)

    def measured(self, now_s: float, max_age_s: float) -> bool:
        """Whether there is a window whose end arrived at most ``max_age_s`` before ``now_s`` (monotonic)."""
        newest = self._stream.newest
        return newest is not None and self._stream.began_s < newest.time_s and now_s - newest.arrival_s <= max_age_s

    def sample(self, window_s: float, now_s: float) -> QualitySample | None:
        """The numbers over about the last ``window_s``; None where there are none of late. ``now_s``: monotonic."""
        newest, found = self._stream.newest, self._stream.sample(window_s, now_s)
        if newest is None or found is None:
            return None
        sample = QualitySample(
            source=QUALITY_SOURCE_PUBLISHER_STATS,
            measure_time=timestamp_at(newest.time_s),
            age=duration_of(max(0.0, now_s - newest.arrival_s)),
        )
        if found.window_s is not None:
            sample.window.CopyFrom(duration_of(found.window_s))
        if found.frames_per_second is not None:
            sample.frames_per_second = found.frames_per_second.value
        if found.bitrate_bps is not None:
            sample.bitrate_bps = found.bitrate_bps.value
        return sample
