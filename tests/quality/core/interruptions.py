"""Sound packet by packet, so that what falls between two readings is where it was: blackouts, and silence."""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Reading, Source
from track_server.quality.core.watch import Subject, Watch

UTC = 1e9
DELAY_S = 0.02
LONGEST_S = 220.0
REPORT_S = 1.0
"""LiveKit reports with the first packet that arrives so long after its last report."""


@dataclass
class Spoken:
    """``packet_s``: between two packets; 0.4 is Opus' comfort noise in silence. ``dark``: from when to when nothing
    arrives. ``read_s``, ``tick_s``: when in each second it is read, and looked at."""

    flow: Flow
    packet_s: float = 0.02
    dark: tuple[float, float] = (0.0, 0.0)
    read_s: float = 0.0
    tick_s: float = 0.5

    def __post_init__(self) -> None:
        self._arrivals: list[float] = []
        self._lost: list[int] = []
        """As a receiver counts, with each of them."""
        self._reports: list[tuple[float, float]] = []
        lost, last = 0, -1
        for number in range(int(LONGEST_S / self.packet_s)):
            at_s = number * self.packet_s + DELAY_S
            if self.dark[0] <= at_s < self.dark[1]:
                continue
            # WebRTC takes a jump of more than 50 packets for a stream that begins anew, and counts none of them.
            lost += number - last - 1 if number - last - 1 <= 50 else 0
            last = number
            self._arrivals.append(at_s)
            self._lost.append(lost)
            if not self._reports or at_s - self._reports[-1][0] >= REPORT_S:
                self._reports.append((at_s, number + 1 - len(self._arrivals)))

    def changes(self, seconds: int, expected: Expected | None = None) -> list[tuple[AlertKind, bool, float]]:
        """Each alert that went on or off, and when."""
        watch = Watch(self.flow, Subject(self.flow.track_sid, "alice", Media.AUDIO))
        if expected is not None:
            watch.expect(expected)
        found = []
        for second in range(seconds):
            watch.add([self.reading(second + self.read_s)])
            now_s = second + self.tick_s
            found += [(change.kind, change.on, now_s) for change in watch.tick(now_s).changes]
        return found

    def reading(self, now_s: float) -> Reading:
        """What is told at ``now_s``."""
        return self._received(now_s) if self.flow.hop is Hop.DOWNLINK else self._sent(now_s)

    def _received(self, now_s: float) -> Reading:
        arrived = bisect_right(self._arrivals, now_s)
        return Reading(
            source=Source.SUBSCRIBER_STATS,
            ssrc=1,
            time_s=UTC + now_s,
            arrival_s=now_s,
            packets=arrived,
            payload_bytes=100 * arrived,
            lost=self._lost[arrived - 1] if arrived else 0,
            lost_before_repair=True,
            last_packet_s=UTC + self._arrivals[arrived - 1] if arrived else None,
            rtt_ms=2 * DELAY_S * 1000,
        )

    def _sent(self, now_s: float) -> Reading:
        sent = int(now_s / self.packet_s) + 1
        reading = Reading(
            source=Source.PUBLISHER_STATS,
            ssrc=1,
            time_s=UTC + now_s,
            arrival_s=now_s,
            packets=sent,
            payload_bytes=100 * sent,
        )
        reports = bisect_right(self._reports, (now_s - DELAY_S, math.inf))
        if not reports:
            return reading
        at_s, lost = self._reports[reports - 1]
        return replace(reading, lost=int(lost), lost_time_s=UTC + at_s + DELAY_S, rtt_ms=2 * DELAY_S * 1000)
