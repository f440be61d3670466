"""One RTP stream as one source tells of it, and its numbers over windows. Pure.

A window never spans what makes a difference meaningless (`continuity`): there a new one begins, at first shorter than
what is asked for.
"""

import math
from bisect import bisect_left
from typing import Final, NamedTuple

from track_server.quality.core.measuring.continuity import Break, broken, late
from track_server.quality.core.measuring.freezing import Freezing
from track_server.quality.core.measuring.losses import REPORT_STALE_S, Losses, Packets
from track_server.quality.core.measuring.reading import Hop, Limitation, Reading, Source
from track_server.quality.core.measuring.sample import Number, Sample, Share

HISTORY_S: Final = 65.0
"""Readings are kept this long, in seconds: the longest window, 60 s, and the longest time between two readings."""

MAX_READINGS: Final = 128
"""Readings kept at most, where they come faster than once a second."""

MIN_SPAN_S: Final = 0.5
"""The shortest window, in seconds: over less, single packets and the moment of reading make up the number."""

PAUSE_S: Final = 2.0
"""A layer that sent nothing for so long, in seconds, has ceased to send: two frames at 1 fps, the slowest there is."""

RECENT_S: Final = 2.5
"""Packets within so many seconds come now: two readings, and half of one for their unevenness."""

FRAME_SAMPLES: Final = 960
"""Samples in a frame of sound of 20 ms at 48 kHz, which is as long as a packet usually is."""


class Added(NamedTuple):
    """What a reading adds to the one before it. ``packets``: lost of expected, before repair where that is known.
    ``concealed``: frames of 20 ms of sound that were made up. Each is told once; None: not told."""

    broke: Break | None
    packets: Packets | None
    concealed: Packets | None


NOTHING_ADDED: Final = Added(None, None, None)


class Stream:
    """Owner of the readings of one stream since its window began, bounded in time and number."""

    def __init__(self, hop: Hop, media_video: bool) -> None:
        self._hop = hop
        self._video = media_video
        self._readings: list[Reading] = []
        self._losses = Losses(hop, HISTORY_S)
        self._moves = Freezing()

    @property
    def newest(self) -> Reading | None:
        """The last reading of the window."""
        return self._readings[-1] if self._readings else None

    @property
    def began_s(self) -> float:
        """When the window began, on the source's clock; infinity without one."""
        return self._readings[0].time_s if self._readings else math.inf

    @property
    def before_s(self) -> float:
        """When the reading before the newest was taken, on the source's clock; that of the newest where it is alone."""
        return self._readings[-2 if len(self._readings) > 1 else -1].time_s

    @property
    def came_s(self) -> float:
        """When media was last seen to come, on the source's clock."""
        return self._moves.packet_s

    def sends(self, now_s: float) -> bool:
        """Whether media came of late; ``now_s`` on the source's clock."""
        return now_s - self._moves.packet_s < PAUSE_S

    def add(self, reading: Reading) -> Added:
        """Takes a reading: what it broke, if it did, and what it adds."""
        added = NOTHING_ADDED
        broke: Break | None = None
        if self._readings:
            before = self._readings[-1]
            if late(before, reading):
                return added
            broke = broken(before, reading)
            if broke is None:
                self._moves.add(before, reading)
                lost = self._losses.add(before, reading)
                added = Added(None, lost.before or lost.after, _made_up(before, reading))
            else:
                self.interrupt()
        if not self._readings:
            self._losses.begin(reading)
        self._readings.append(reading)
        if reading.time_s - self._readings[0].time_s > HISTORY_S or len(self._readings) > MAX_READINGS:
            del self._readings[0]
        return added if broke is None else Added(broke, None, None)

    def interrupt(self) -> None:
        """Ends the window; the next reading begins one."""
        self._readings.clear()
        self._losses = Losses(self._hop, HISTORY_S)
        self._moves = Freezing()

    def cut(self, begin_s: float) -> None:
        """Shortens the window to what came from ``begin_s`` on, on the source's clock."""
        del self._readings[: bisect_left(self._readings, begin_s, hi=max(0, len(self._readings) - 1), key=_time)]

    def stalled_s(self) -> float | None:
        """Seconds since anything arrived at the receiving end, at the newest reading; None where it cannot be known.

        A sender that sends goes on counting in a blackout: on the UPLINK it is the receiver reports that tell, or what
        LiveKit hands on.
        """
        newest = self._readings[-1]
        packet_s = self._moves.packet_s
        if packet_s == -math.inf:
            # Nothing since the window began; before that, who knows.
            return newest.time_s - self._readings[0].time_s or None if self._counted() else None
        received = self._hop is Hop.DOWNLINK or newest.source is Source.DEBUG_VIEW
        if received or not self.sends(newest.time_s):
            return max(0.0, newest.time_s - packet_s)
        told_s = self._losses.told_s
        return None if told_s == -math.inf else max(0.0, newest.time_s - told_s)

    def gap_s(self) -> float | None:
        """How long nothing arrived just now, where something had before; None where it cannot be known.

        On the UPLINK it is told after it, by the packets that were lost in it: reports may be lost themselves.
        """
        if self._hop is Hop.UPLINK:
            return self._losses.missed_s
        return None if self._moves.packet_s == -math.inf else max(0.0, self._readings[-1].time_s - self._moves.packet_s)

    def sample(self, span_s: float, now_s: float) -> Sample | None:
        """The numbers over about the last ``span_s`` before the newest reading; None where there is none of late.

        Of the windows of MIN_SPAN_S and more the one whose length comes nearest to ``span_s`` is taken; without one,
        rates are absent. ``now_s``: monotonic, here: ages do not depend on the source's clock.
        """
        if not self._readings or now_s - self._readings[-1].arrival_s > HISTORY_S:
            return None
        after = self._readings[-1]
        source = after.source
        age_s = max(0.0, now_s - after.arrival_s)
        told_s = max(0.0, after.time_s - (after.time_s if after.lost_time_s is None else after.lost_time_s))
        fresh = told_s <= REPORT_STALE_S
        before = self._base(span_s)
        seconds = 0.0 if before is None else after.time_s - before.time_s
        loss = self._losses.over(seconds or span_s, after.time_s)
        limited = after.limitation
        stalled_s = self.stalled_s()
        frozen: Share | None = None
        freezing_s: float | None = None
        stuck_s: float | None = None
        if self._video and self._hop is Hop.DOWNLINK:
            freezing_s = self._moves.going_on_s(after.time_s)
            stuck_s = self._moves.stuck_s(after.time_s, RECENT_S)
            frozen = self._frozen(before, after, freezing_s, age_s)
        return Sample(
            rid=after.rid,
            ssrc=after.ssrc,
            window_s=seconds or None,
            sends=None if before is None else self.sends(after.time_s),
            loss_before=_share(loss.before, source, age_s + told_s),
            loss_after=_share(loss.after, source, age_s + told_s),
            jitter_ms=_number(after.jitter_ms if fresh else None, source, age_s + told_s),
            rtt_ms=_number(after.rtt_ms if fresh else None, source, age_s + told_s),
            bitrate_bps=None
            if before is None
            else _number(_rate(before.payload_bytes, after.payload_bytes, seconds, 8.0), source, age_s),
            resent_per_second=None if before is None else _rate(before.resent, after.resent, seconds),
            frames_per_second=None
            if before is None
            else _number(_rate(before.frames, after.frames, seconds), source, age_s),
            width=_number(after.width or None, source, age_s),
            height=_number(after.height or None, source, age_s),
            frozen=frozen,
            freezing_s=_number(freezing_s, source, age_s),
            concealed=None if before is None else _concealed(before, after, age_s),
            buffer_ms=None if before is None else _number(_buffer_ms(before, after), source, age_s),
            stalled_s=_number(stalled_s, source, age_s),
            gap_s=_number(self.gap_s(), source, age_s),
            stuck_s=_number(stuck_s, source, age_s),
            limitation=limited,
            cpu_limited=None if limited is None else Number(float(limited is Limitation.CPU), source, age_s),
            bandwidth_limited=None
            if limited is None
            else Number(float(limited is Limitation.BANDWIDTH), source, age_s),
            cpu_load=_number(after.cpu_load, source, age_s),
            audio_level=_number(after.audio_level, source, age_s),
            brightness=_number(after.brightness, source, age_s),
        )

    def _counted(self) -> bool:
        newest = self._readings[-1]
        return newest.packets is not None or newest.payload_bytes is not None

    def _base(self, span_s: float) -> Reading | None:
        readings = self._readings
        last = len(readings) - 1
        newest_s = readings[last].time_s
        after = bisect_left(readings, newest_s - span_s, hi=last, key=_time)
        best: Reading | None = None
        for index in (after - 1, after):
            if 0 <= index < last:
                length_s = newest_s - readings[index].time_s
                if length_s >= MIN_SPAN_S and (
                    best is None or abs(length_s - span_s) < abs(newest_s - best.time_s - span_s)
                ):
                    best = readings[index]
        return best

    def _frozen(self, before: Reading | None, after: Reading, freezing_s: float | None, age_s: float) -> Share | None:
        """Freezes that ended in the window, and what has passed of one that has not, within the window."""
        if before is None or freezing_s is None:
            return None
        seconds = after.time_s - before.time_s
        ended_s = self._moves.ended_s(before.time_s)
        if before.freezes_s is not None and after.freezes_s is not None:
            ended_s = max(ended_s, after.freezes_s - before.freezes_s)
        return Share(min(seconds, ended_s + min(freezing_s, seconds)), seconds, after.source, age_s)


def _number(value: float | None, source: Source, age_s: float) -> Number | None:
    return None if value is None else Number(value, source, age_s)


def _share(packets: Packets | None, source: Source, age_s: float) -> Share | None:
    if packets is None:
        return None
    return Share(packets.lost, packets.expected, source, age_s)


def _rate(first: int | None, last: int | None, seconds: float, factor: float = 1.0) -> float | None:
    # Below 0 where the counter began anew while nobody told it.
    return None if first is None or last is None or last < first else factor * (last - first) / seconds


def _concealed(before: Reading, after: Reading, age_s: float) -> Share | None:
    if before.concealed is None or after.concealed is None or before.samples is None or after.samples is None:
        return None
    whole = after.samples - before.samples
    if whole <= 0:
        return None
    # Silence that turns out to be silent is taken out of the count later, so it can fall.
    return Share(float(min(whole, max(0, after.concealed - before.concealed))), float(whole), after.source, age_s)


def _made_up(before: Reading, after: Reading) -> Packets | None:
    if before.concealed is None or after.concealed is None or before.samples is None or after.samples is None:
        return None
    whole = after.samples - before.samples
    if whole <= 0:
        return None
    part = max(-whole, min(whole, after.concealed - before.concealed))
    return Packets(part / FRAME_SAMPLES, whole / FRAME_SAMPLES)


def _buffer_ms(before: Reading, after: Reading) -> float | None:
    if before.buffer_s is None or after.buffer_s is None or before.buffered is None or after.buffered is None:
        return None
    count = after.buffered - before.buffered
    return (
        1000.0 * (after.buffer_s - before.buffer_s) / count if count > 0 and after.buffer_s >= before.buffer_s else None
    )


def _time(reading: Reading) -> float:
    return reading.time_s
