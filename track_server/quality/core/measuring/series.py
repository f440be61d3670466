"""The streams that one source tells of one track on one hop, together: layers of simulcast, or one. Pure."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from track_server.quality.core.measuring.continuity import Break
from track_server.quality.core.measuring.losses import Packets
from track_server.quality.core.measuring.reading import Hop, Limitation, Media, Reading
from track_server.quality.core.measuring.sample import Number, Sample, Share
from track_server.quality.core.measuring.stream import Added, Stream

_SEVERITY: Final = (Limitation.NONE, Limitation.OTHER, Limitation.BANDWIDTH, Limitation.CPU)
"""What says most of why a track is not what it could be comes last."""


class Tally:
    """A sum of packets until it is taken."""

    __slots__ = ("_expected", "_lost")

    def __init__(self) -> None:
        self._lost = 0.0
        self._expected = 0.0

    def add(self, packets: Packets) -> None:
        """Adds them."""
        self._lost += packets.lost
        self._expected += packets.expected

    def take(self) -> Packets | None:
        """The sum since it was taken last; None where nothing was added."""
        if not self._expected:
            return None
        taken = Packets(self._lost, self._expected)
        self._lost = self._expected = 0.0
        return taken


class Series:
    """Owner of the streams of one source: they begin and end together."""

    def __init__(self, hop: Hop, media: Media) -> None:
        self.arrival_s = 0.0
        self.tells_loss = False
        """Whether it told of loss at all."""
        self.tells_concealment = False
        """Likewise of sound that was made up."""
        self._hop = hop
        self._video = media is Media.VIDEO
        self._streams: dict[int, Stream] = {}
        self._sending: frozenset[int] = frozenset()
        self._known_s = 0.0
        self._known: dict[float, list[Sample]] = {}
        """The samples by span, as of that moment: they are asked for again and again."""
        self._totals: dict[float, Sample] = {}

    def add(self, readings: Sequence[Reading]) -> Added:
        """Takes the readings of all its streams at one moment: what that broke, and what it adds."""
        self._forget()
        self.arrival_s = readings[0].arrival_s
        broke: Break | None = None
        ssrcs = {reading.ssrc for reading in readings}
        if ssrcs != self._streams.keys():
            broke = Break.STREAMS if self._streams else None
            self._streams = {ssrc: Stream(self._hop, self._video) for ssrc in ssrcs}
            self._sending = frozenset()
        packets, concealed = Tally(), Tally()
        for reading in readings:
            added = self._streams[reading.ssrc].add(reading)
            broke = broke or added.broke
            if added.packets is not None:
                self.tells_loss = True
                packets.add(added.packets)
            if added.concealed is not None:
                self.tells_concealment = True
                concealed.add(added.concealed)
        if broke is not None:
            if broke is not Break.STREAMS:
                self._renew(readings)
            return Added(broke, None, None)
        if len(readings) > 1:
            broke = self._follow(readings)
        return Added(broke, packets.take(), concealed.take())

    @property
    def newest_s(self) -> float:
        """When the newest reading was taken, on the source's clock."""
        return max(
            (stream.newest.time_s for stream in self._streams.values() if stream.newest is not None), default=0.0
        )

    def interrupt(self) -> None:
        """Ends the windows; the next readings begin new ones."""
        self._forget()
        for stream in self._streams.values():
            stream.interrupt()
        self._sending = frozenset()

    def samples(self, span_s: float, now_s: float) -> list[Sample]:
        """A sample for each stream that was told of lately, lowest layer first. The list is not to be changed."""
        if now_s != self._known_s:
            self._known_s = now_s
            self._forget()
        found = self._known.get(span_s)
        if found is None:
            told = (stream.sample(span_s, now_s) for stream in self._streams.values())
            found = self._known[span_s] = sorted((sample for sample in told if sample is not None), key=_size)
        return found

    def total(self, span_s: float, now_s: float) -> Sample | None:
        """Of the track as a whole; None where nothing was told lately."""
        found = self.samples(span_s, now_s)
        if len(found) <= 1:
            return found[0] if found else None
        total = self._totals.get(span_s)
        if total is None:
            total = self._totals[span_s] = _together(found)
        return total

    def _forget(self) -> None:
        self._known.clear()
        self._totals.clear()

    def _renew(self, readings: Iterable[Reading]) -> None:
        """A stream broke, and with it the track: all begin anew, with what was just read."""
        self.interrupt()
        for reading in readings:
            self._streams[reading.ssrc].add(reading)

    def _follow(self, readings: Sequence[Reading]) -> Break | None:
        """A layer that begins or ceases to send ends the window of all: a track's rates are those of its layers."""
        sending = frozenset(reading.ssrc for reading in readings if self._streams[reading.ssrc].sends(reading.time_s))
        before, self._sending = self._sending, sending
        if not before or before == sending:
            return None
        begin_s = max(
            [self._streams[ssrc].came_s for ssrc in before - sending]
            + [self._streams[ssrc].before_s for ssrc in sending - before]
        )
        for stream in self._streams.values():
            stream.cut(begin_s)
        return Break.LAYER


def _together(samples: Collection[Sample]) -> Sample:
    """A simulcast track's numbers: rates and packets are sums, the picture is that of its largest layer that sends."""
    sending = [sample for sample in samples if sample.sends] or list(samples)
    largest = max(sending, key=_size)
    return Sample(
        window_s=largest.window_s,
        sends=largest.sends,
        loss_before=_shares([sample.loss_before for sample in samples]),
        loss_after=_shares([sample.loss_after for sample in samples]),
        jitter_ms=max((sample.jitter_ms for sample in sending if sample.jitter_ms is not None), default=None),
        rtt_ms=min((sample.rtt_ms for sample in samples if sample.rtt_ms is not None), key=_age, default=None),
        bitrate_bps=_sum([sample.bitrate_bps for sample in samples]),
        frames_per_second=largest.frames_per_second,
        width=largest.width,
        height=largest.height,
        frozen=largest.frozen,
        freezing_s=largest.freezing_s,
        buffer_ms=largest.buffer_ms,
        stalled_s=min((sample.stalled_s for sample in sending if sample.stalled_s is not None), default=None),
        gap_s=min((sample.gap_s for sample in sending if sample.gap_s is not None), default=None),
        stuck_s=largest.stuck_s,
        limitation=max(
            (sample.limitation for sample in sending if sample.limitation is not None),
            key=_SEVERITY.index,
            default=None,
        ),
        cpu_limited=max((sample.cpu_limited for sample in sending if sample.cpu_limited is not None), default=None),
        bandwidth_limited=max(
            (sample.bandwidth_limited for sample in sending if sample.bandwidth_limited is not None), default=None
        ),
        cpu_load=largest.cpu_load,
        brightness=largest.brightness,
    )


def _shares(shares: Sequence[Share | None]) -> Share | None:
    """Of those that are known, all packets together."""
    known = [share for share in shares if share is not None]
    if not known:
        return None
    return Share(
        sum(share.part for share in known),
        sum(share.whole for share in known),
        known[0].source,
        max(share.age_s for share in known),
    )


def _sum(numbers: Sequence[Number | None]) -> Number | None:
    """Absent where one is: a sum of some would read as less than there is."""
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return None
    return Number(sum(number.value for number in known), known[0].source, max(number.age_s for number in known))


def _size(sample: Sample) -> tuple[float, float, str]:
    width = sample.width.value if sample.width is not None else 0.0
    height = sample.height.value if sample.height is not None else 0.0
    rate = sample.bitrate_bps.value if sample.bitrate_bps is not None else 0.0
    return (width * height, rate, sample.rid)


def _age(number: Number) -> float:
    return number.age_s
