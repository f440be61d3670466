"""What LiveKit reports of one RTP stream that it receives (RTCP receiver reports), and the loss in it. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from track.media.v1.media_service_pb2 import RtpStreamStats
from track_server.quality.rtp import packets_expected, seconds_of

REPORT_STALE_S: Final = 3.0
"""A report older than this, in seconds, says nothing of now. LiveKit reports with the first packet that arrives a
second or more after its last report (`rtcpReceiverReportDelta`), so at 1 frame per second within 2 s. Where nothing
arrives it does not report."""

_PLACING_TOLERANCE_S: Final = 0.25
"""How far a report may lie outside the two readings that ought to enclose it: WebRTC takes them on several threads."""

_MAX_REPORTS: Final = 128


@dataclass(frozen=True, slots=True)
class Loss:
    """Packets lost of those expected. ``expected`` is interpolated, hence a float; it is 1 or more."""

    lost: int
    expected: float


@dataclass(frozen=True, slots=True)
class _Report:
    """One receiver report. ``expected``: packets that had been sent, each counted once, when it came."""

    time_s: float
    lost: int
    expected: float


class ReceiverReports:
    """The receiver reports of one stream while its counters run on, of the last ``keep_s`` seconds."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._reports: deque[_Report] = deque(maxlen=_MAX_REPORTS)

    def add(self, before: RtpStreamStats, before_s: float, after: RtpStreamStats, after_s: float) -> None:
        """Takes the report that ``after`` was read with, if it is a new one.

        ``before`` and ``after``: adjacent readings at ``before_s`` < ``after_s`` (seconds UTC). What had been sent when
        the report came is interpolated between them: a report is up to a report interval older than the counters that
        it is read with, and a loss of the one over packets of the other would be skewed by that.
        """
        if not (after.HasField("packets_lost") and after.HasField("remote_time")):
            return
        time_s = seconds_of(after.remote_time)
        if not before_s - _PLACING_TOLERANCE_S <= time_s <= after_s + _PLACING_TOLERANCE_S:
            return
        first, last = packets_expected(before), packets_expected(after)
        if first is None or last is None:
            return
        part = min(1.0, max(0.0, (time_s - before_s) / (after_s - before_s)))
        self._append(_Report(time_s, after.packets_lost, first + part * (last - first)))

    def _append(self, report: _Report) -> None:
        if self._reports:
            newest = self._reports[-1]
            if report.time_s <= newest.time_s:
                return
            # Repair takes back at most what was sent; where more is gone, LiveKit began to count anew.
            if newest.lost - report.lost > max(1.0, report.expected - newest.expected):
                self._reports.clear()
        self._reports.append(report)
        while report.time_s - self._reports[0].time_s > self._keep_s:
            self._reports.popleft()

    def loss(self, window_s: float, now_s: float) -> Loss | None:
        """The loss over about the ``window_s`` before ``now_s`` (the publisher's clock, seconds UTC).

        It is counted from the last report at or before the window's begin (the oldest, where none is so old) to the
        newest one. Where the window is shorter than a report interval, those are the last two. Where more was lost
        than expected it reaches further back: the packets of a blackout are reported lost once packets arrive again.
        ``lost`` is at least 0: late and repaired packets make LiveKit's counter fall (RFC 3550, A.3). None where there
        are no two reports, or none lately.
        """
        if not self._reports or now_s - self._reports[-1].time_s > REPORT_STALE_S:
            return None
        newest = self._reports[-1]
        begin_s = now_s - window_s
        for index in range(len(self._reports) - 2, -1, -1):
            base = self._reports[index]
            if base.time_s > begin_s and index > 0:
                continue
            expected = newest.expected - base.expected
            lost = newest.lost - base.lost
            # One packet of tolerance, because what is expected is interpolated.
            if expected >= 1 and lost <= expected + 1:
                return Loss(max(0, lost), expected)
        return None


def report_age(stream: RtpStreamStats, now_s: float) -> float | None:
    """Age in seconds of the report that ``stream`` was read with; None where there is none, or none lately."""
    if not stream.HasField("remote_time"):
        return None
    age_s = now_s - seconds_of(stream.remote_time)
    return age_s if -_PLACING_TOLERANCE_S <= age_s <= REPORT_STALE_S else None
