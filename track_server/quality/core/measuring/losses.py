"""How many packets of one RTP stream were lost, before repair and after it. Pure.

A sender learns of loss from receiver reports, which are up to a report interval older than the counters that they are
read with. So what had been sent when the report came is interpolated between the two readings around it: a loss of the
one over packets of the other would be skewed by that.

Two numbers come out of one counter and the retransmissions. Where ``lost`` is after repair, each retransmission that
was sent answers a transmission that was lost, so of ``expected + resent`` transmissions ``lost + resent`` were lost.
Where ``lost`` is before repair, each retransmission that was received took one of it back.
"""

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final, NamedTuple

from track_server.quality.core.measuring.reading import Hop, Reading

REPORT_STALE_S: Final = 3.0
"""A report older than this, in seconds, says nothing of now. LiveKit reports with the first packet that arrives a
second or more after its last report, so at 1 frame per second within 2 s. Where nothing arrives it does not report."""

PLACING_TOLERANCE_S: Final = 0.25
"""How far a report may lie outside the two readings that ought to enclose it: WebRTC takes them on several threads."""

AT_ONCE_S: Final = 0.02
"""A count so close to its reading, in seconds, is of the same moment: one packet of sound."""

MAX_POINTS: Final = 128

GAP_S: Final = 1.5
"""Between two counts so far apart, in seconds, it is kept what had been sent meanwhile."""

RATE_S: Final = 5.0
"""Over so many seconds, at least, the packets that are usual in one are counted."""


class Packets(NamedTuple):
    """Packets lost of those that should have come. ``expected`` is interpolated, hence a float."""

    lost: float
    expected: float


class Lost(NamedTuple):
    """The two losses; None where what tells it is not told."""

    before: Packets | None
    after: Packets | None


_NOTHING: Final = Lost(None, None)


@dataclass(frozen=True, slots=True)
class _Point:
    """The counters when loss was last counted. ``resent``, ``nacks``: None where they are not told. ``between``: what
    was to be expected by times since the count before, where that is long ago and it is known."""

    time_s: float
    lost: float
    expected: float
    resent: float | None
    nacks: int | None
    between: Sequence[tuple[float, float]] = ()


class Losses:
    """The loss counter of one stream while it runs on, of the last ``keep_s`` seconds."""

    def __init__(self, hop: Hop, keep_s: float) -> None:
        self._hop = hop
        self._keep_s = keep_s
        self._before_repair = False
        self._points: list[_Point] = []
        self._sent: deque[tuple[float, float]] = deque(maxlen=MAX_POINTS)
        """By time, since the newest count."""
        self._first: Reading | None = None
        self._moved_s = math.nan
        self.missed_s: float | None = None
        """The time that those lost stand for which the newest count added: how long nothing came, where they were lost
        at one go. None before there are two counts."""

    @property
    def told_s(self) -> float:
        """When loss was last told, on the source's clock; minus infinity where never."""
        return self._points[-1].time_s if self._points else -math.inf

    def begin(self, reading: Reading) -> None:
        """Takes the first reading of a window. None before it tells what had been sent when its count was true, so it
        counts where that is its own time, or else once the next count says that nothing was lost in between."""
        time_s = reading.time_s if reading.lost_time_s is None else reading.lost_time_s
        if abs(reading.time_s - time_s) <= AT_ONCE_S:
            self._add(reading, time_s, reading.packets, reading.resent)
        else:
            self._first = reading

    def add(self, before: Reading, after: Reading) -> Lost:
        """Takes the count that ``after`` was read with, if it is a new one, and says what it adds.

        ``before`` and ``after``: adjacent readings that continue each other. What is added is below 0 where packets
        that were told lost came late, so that the sum of what was added stays true.
        """
        time_s = after.time_s if after.lost_time_s is None else after.lost_time_s
        if self._hop is Hop.UPLINK and after.packets is not None:
            self._sent.append((after.time_s, after.packets))
        if not before.time_s - PLACING_TOLERANCE_S <= time_s <= after.time_s + PLACING_TOLERANCE_S:
            return _NOTHING
        first, self._first = self._first, None
        if first is not None and first.lost == after.lost and time_s > first.time_s:
            self._add(first, first.time_s, first.packets, first.resent)
        part = min(1.0, max(0.0, (time_s - before.time_s) / (after.time_s - before.time_s)))
        packets = _between(before.packets, after.packets, part)
        return self._add(after, time_s, packets, _between(before.resent, after.resent, part))

    def over(self, span_s: float, now_s: float) -> Lost:
        """The loss over the ``span_s`` up to the newest count; ``now_s``: the source's clock, seconds UTC.

        It is counted from the span's begin (from the oldest count, where none is so old), interpolated between the two
        counts around it. Where more was lost than expected it reaches further back: the packets of a blackout are told
        lost once packets arrive again. Absent where there are no two counts, or none lately.
        """
        points = self._points
        if len(points) < 2 or now_s - points[-1].time_s > REPORT_STALE_S:
            return _NOTHING
        newest = points[-1]
        begin_s = newest.time_s - span_s
        index = bisect_right(points, begin_s, hi=len(points) - 1, key=_time) - 1
        bases = points[max(0, index) :: -1]
        if index >= 0:
            bases.insert(0, _point_at(begin_s, points[index], points[index + 1]))
        for base in bases:
            # One packet of tolerance, because what is expected is interpolated.
            if newest.expected - base.expected >= 1 and newest.lost - base.lost <= newest.expected - base.expected + 1:
                return self._difference(base, newest)
        return _NOTHING

    def _add(self, told: Reading, time_s: float, packets: float | None, resent: float | None) -> Lost:
        if told.lost is None or packets is None:
            return _NOTHING
        expected = packets
        if self._hop is Hop.DOWNLINK:
            expected += told.lost
            if told.lost_before_repair:
                # What was repaired is in `lost` already.
                expected -= resent or 0.0
        if told.lost_before_repair is not self._before_repair:
            self._points.clear()
        self._before_repair = told.lost_before_repair
        return self._append(_Point(time_s, told.lost, expected, resent, told.nacks), told.resent)

    def _append(self, point: _Point, resent: float | None) -> Lost:
        """``resent``: as it was read, which is after the count was true."""
        added = _NOTHING
        if self._points:
            newest = self._points[-1]
            if point.time_s <= newest.time_s:
                return _NOTHING
            moved = point.expected - newest.expected
            # What was lost may come after all, or again: at most what was sent, and sent again, of late. After a
            # blackout that is all of it at once. Where more is gone, it is counted anew.
            least = -moved - self._resent(resent)
            if newest.lost - point.lost > max(1.0, -least):
                self._points.clear()
                self.missed_s = None
            elif moved >= 1:
                added = self._difference(newest, point, least=least)
                self.missed_s = self._missed_s(added, point)
        if not self._points or point.expected - self._points[-1].expected >= 1:
            self._moved_s = point.time_s
        before_s = self._points[-1].time_s if self._points else point.time_s
        if point.time_s - before_s > GAP_S:
            between = [each for each in self._sent if before_s < each[0] < point.time_s]
            point = replace(point, between=between)
        while self._sent and self._sent[0][0] < point.time_s:
            self._sent.popleft()
        self._points.append(point)
        # The last before the span stays: what is between it and the next is interpolated, and may be a long blackout.
        points = self._points
        if len(points) > MAX_POINTS or (len(points) > 1 and point.time_s - points[1].time_s > self._keep_s):
            del points[0]
        return added

    def _resent(self, resent: float | None) -> float:
        """Since the oldest count that is kept; 0 where it is not told."""
        oldest = self._points[0].resent
        return 0.0 if oldest is None or resent is None else max(0.0, resent - oldest)

    def _missed_s(self, added: Lost, point: _Point) -> float:
        packets = added.before or added.after
        if packets is None or packets.lost <= 0:
            return 0.0
        points = self._points
        base = points[max(0, bisect_right(points, point.time_s - RATE_S, key=_time) - 1)]
        seconds = packets.lost * (point.time_s - base.time_s) / (point.expected - base.expected)
        return min(seconds, point.time_s - self._moved_s)

    def _difference(self, base: _Point, newest: _Point, least: float = 0.0) -> Lost:
        expected = newest.expected - base.expected
        # Late and repaired packets make the counter fall: no loss below 0 (RFC 3550, A.3).
        change = float(newest.lost - base.lost)
        lost = max(least, change)
        resent = None if newest.resent is None or base.resent is None else newest.resent - base.resent
        if self._before_repair:
            raw = Packets(min(lost, expected), expected)
            return Lost(raw, None if resent is None else Packets(max(least, raw.lost - resent), expected))
        rest = Packets(min(lost, expected), expected)
        if base.nacks is not None and base.nacks == newest.nacks:
            # Nobody asked: Chromium counts the padding of its probes as sent again.
            resent = 0.0
        if resent is None:
            return Lost(None, rest)
        sent = expected + resent if self._hop is Hop.UPLINK else expected
        # What was lost before the span and repaired in it is not lost in it.
        return Lost(Packets(min(max(least, change + resent), sent), sent), rest)


def _point_at(time_s: float, first: _Point, last: _Point) -> _Point:
    """What had been counted then, between two counts. Loss spreads evenly, but where most was lost it came last: a
    blackout ends with the packet that the count was told with."""
    if last.time_s - time_s <= AT_ONCE_S:
        return last
    if time_s - first.time_s <= AT_ONCE_S:
        return first
    part = (time_s - first.time_s) / (last.time_s - first.time_s)
    lost, expected = last.lost - first.lost, last.expected - first.expected
    expected_then = _expected_at(time_s, first, last) - first.expected
    at_the_end = expected / 2 < lost <= expected
    lost_then = max(0.0, lost - (expected - expected_then)) if at_the_end else part * lost
    return _Point(
        time_s,
        first.lost + lost_then,
        first.expected + expected_then,
        None if first.resent is None or last.resent is None else first.resent + part * (last.resent - first.resent),
        first.nacks,
    )


def _expected_at(time_s: float, first: _Point, last: _Point) -> float:
    steps = [(first.time_s, first.expected), *last.between, (last.time_s, last.expected)]
    number = bisect_left(steps, time_s, lo=1, hi=len(steps) - 1, key=itemgetter(0))
    (before_s, before), (after_s, after) = steps[number - 1], steps[number]
    found = before + (after - before) * (time_s - before_s) / (after_s - before_s)
    return min(max(found, first.expected), last.expected)


def _between(first: int | None, last: int | None, part: float) -> float | None:
    return None if first is None or last is None else first + part * (last - first)


def _time(point: _Point) -> float:
    return point.time_s
