"""The counters of one hosted publication, and the window of time over which they are differenced. Pure.

A window never spans what makes a difference meaningless: another track SID, another set of RTP streams, a counter that
went back, a gap, a step of a clock, a layer that began or ceased to send, or an interruption that the owner tells
(mute). There a new window begins, at first shorter than what is asked for.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf import timestamp_pb2

from track.media.v1.media_service_pb2 import DataTrackStats, HostedTrackStats, RtpStreamStats
from track.v1.quality_pb2 import QUALITY_SOURCE_PUBLISHER_STATS, QualitySample
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, TrackType
from track_server.quality.layers import StreamWindow, set_data, set_streams
from track_server.quality.receiver import ReceiverReports, report_age
from track_server.quality.rtp import seconds_of, sent_media, went_back

HISTORY_S: Final = 65.0
"""Samples are kept this long, in seconds: the longest window of the contract, 60 s, and the longest time between two
samples (demand.LONGEST_S)."""

MAX_SAMPLES: Final = 128
"""Samples kept at most, where they come faster than once a second."""

MAX_GAP_S: Final = 15.0
"""Two samples further apart than this, in seconds, are not differenced: three of the longest intervals asked for."""

MIN_SPAN_S: Final = 0.5
"""The shortest window, in seconds: over less, single packets and the moment of reading make up the number."""

CLOCK_TOLERANCE_S: Final = 1.0
"""How far the time between two samples on the publisher's clock may differ from that between their arrivals, in
seconds, before it counts as a step of that clock."""

LAYER_PAUSE_S: Final = 2.0
"""A layer that sent nothing for so long, in seconds, has ceased to send: two frames at 1 fps, the slowest that can be
published."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """What was reported at one moment. ``time_s``: the publisher's clock, seconds UTC. ``arrival_s``: monotonic."""

    time: timestamp_pb2.Timestamp
    time_s: float
    arrival_s: float
    streams: Mapping[int, RtpStreamStats]
    data: DataTrackStats | None


@dataclass(slots=True)
class _Stream:
    """What is known of an RTP stream since its counters began. ``sent_s``: when it was last seen to have sent."""

    reports: ReceiverReports = field(default_factory=lambda: ReceiverReports(HISTORY_S))
    sent_s: float = -math.inf

    def sends(self, now_s: float) -> bool:
        return now_s - self.sent_s < LAYER_PAUSE_S


class History:
    """The samples of one publication since its counters began or its window ended, bounded in time and number."""

    def __init__(self) -> None:
        self.track_sid = ""
        self.arrival_s = -math.inf
        """When the last sample arrived (monotonic seconds)."""
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)
        self._streams: dict[int, _Stream] = {}

    def add(self, stats: HostedTrackStats, arrival_s: float) -> None:
        """Takes a sample that arrived at ``arrival_s`` (monotonic seconds, never falling).

        One without a time is left out, and so is one that is older than the newest, or the same again.
        """
        if not stats.HasField("measure_time"):
            return
        self.arrival_s = arrival_s
        after = _Sample(
            time=stats.measure_time,
            time_s=seconds_of(stats.measure_time),
            arrival_s=arrival_s,
            streams={stream.ssrc: stream for stream in stats.streams},
            data=stats.data if stats.HasField("data") else None,
        )
        if stats.track_sid != self.track_sid:
            self.interrupt()
            self.track_sid = stats.track_sid
        if self._samples:
            before = self._samples[-1]
            if _late(before, after):
                return
            if _broken(before, after):
                self.interrupt()
            else:
                self._follow(before, after)
        if not self._samples:
            self._streams = {ssrc: _Stream() for ssrc in after.streams}
        self._samples.append(after)
        while after.time_s - self._samples[0].time_s > HISTORY_S:
            self._samples.popleft()

    def interrupt(self) -> None:
        """Ends the window; the next sample begins a new one."""
        self._samples.clear()
        self._streams.clear()

    def measured(self, now_s: float, max_age_s: float) -> bool:
        """Whether there is a window whose end arrived at most ``max_age_s`` before ``now_s`` (monotonic)."""
        return bool(self._samples) and now_s - self._samples[-1].arrival_s <= max_age_s and self._base(0.0) is not None

    def sample(self, window_s: float, now_s: float, track_type: TrackType.ValueType) -> QualitySample | None:
        """The numbers over about the last ``window_s`` before the newest sample; None where there is none of late.

        Of the windows of MIN_SPAN_S and more the one whose length comes nearest to ``window_s`` is taken; without one,
        rates and layers are absent. ``now_s``: monotonic. The age is counted from the arrival here, because
        the publisher's clock may be another machine's.
        """
        if not self._samples or now_s - self._samples[-1].arrival_s > HISTORY_S:
            return None
        newest = self._samples[-1]
        base = self._base(window_s)
        seconds = 0.0 if base is None else newest.time_s - base.time_s
        sample = QualitySample(source=QUALITY_SOURCE_PUBLISHER_STATS)
        sample.measure_time.CopyFrom(newest.time)
        sample.age.FromNanoseconds(round(max(0.0, now_s - newest.arrival_s) * 1e9))
        if base is not None:
            sample.window.FromNanoseconds(round(seconds * 1e9))
            if newest.data is not None and base.data is not None:
                set_data(sample, base.data, newest.data, seconds)
        windows = [
            StreamWindow(
                after=after,
                before=None if base is None else base.streams[ssrc],
                seconds=seconds,
                sends=base is None or self._streams[ssrc].sends(newest.time_s),
                loss=self._streams[ssrc].reports.loss(window_s, newest.time_s),
                report_age_s=report_age(after, newest.time_s),
            )
            for ssrc, after in newest.streams.items()
        ]
        if windows:
            set_streams(sample, windows, video=track_type == TRACK_TYPE_VIDEO)
        return sample

    def _follow(self, before: _Sample, after: _Sample) -> None:
        """Takes ``after``, which continues ``before``; begins a new window where a layer began or ceased to send."""
        begins: list[float] = []
        for ssrc, stream in self._streams.items():
            stream.reports.add(before.streams[ssrc], before.time_s, after.streams[ssrc], after.time_s)
            sent, sent_s = stream.sends(before.time_s), stream.sent_s
            if sent_media(before.streams[ssrc], after.streams[ssrc]):
                stream.sent_s = after.time_s
            if sent and not stream.sends(after.time_s):
                begins.append(sent_s)
            elif not sent and stream.sends(after.time_s):
                begins.append(before.time_s)
        if begins:
            while self._samples[0].time_s < max(begins):
                self._samples.popleft()

    def _base(self, window_s: float) -> _Sample | None:
        """The sample with which the window that comes nearest to ``window_s`` begins."""
        newest_s = self._samples[-1].time_s
        best: _Sample | None = None
        for index in range(len(self._samples) - 2, -1, -1):
            sample = self._samples[index]
            span_s = newest_s - sample.time_s
            if span_s < MIN_SPAN_S:
                continue
            if best is None or abs(span_s - window_s) <= abs(newest_s - best.time_s - window_s):
                best = sample
            if span_s >= window_s:
                break
        return best


def _late(before: _Sample, after: _Sample) -> bool:
    """Whether ``after`` was taken before ``before`` and came late, or is the same again."""
    return after.time_s == before.time_s or (after.time_s < before.time_s and _went_back(before, after))


def _broken(before: _Sample, after: _Sample) -> bool:
    """Whether the two cannot be differenced."""
    seconds = after.time_s - before.time_s
    return (
        not 0 < seconds <= MAX_GAP_S
        or abs(seconds - (after.arrival_s - before.arrival_s)) > CLOCK_TOLERANCE_S
        or before.streams.keys() != after.streams.keys()
        or (before.data is None) != (after.data is None)
        or _went_back(before, after)
    )


def _went_back(before: _Sample, after: _Sample) -> bool:
    """Whether a counter is lower in ``after``."""
    if any(
        went_back(before.streams[ssrc], after.streams[ssrc]) for ssrc in before.streams.keys() & after.streams.keys()
    ):
        return True
    return (
        before.data is not None
        and after.data is not None
        and (after.data.frames_pushed < before.data.frames_pushed or after.data.bytes_pushed < before.data.bytes_pushed)
    )
