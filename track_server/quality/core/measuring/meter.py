"""What all sources tell of one track on one hop: one sample a layer, and one for the track. Pure.

Who owns a meter tells it what readings cannot: that the track was muted, that its receiver does not want it, that the
publisher sends nothing. Such time is no stall, and no freeze.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final, NamedTuple

from track_server.quality.core.measuring.continuity import Break
from track_server.quality.core.measuring.gaps import Gaps
from track_server.quality.core.measuring.losses import Packets
from track_server.quality.core.measuring.reading import TRUST, Hop, Media, Reading, Source
from track_server.quality.core.measuring.sample import MAX_AGE_S, Number, Sample, merged
from track_server.quality.core.measuring.series import Series, Tally

MAX_STREAMS: Final = 16
"""Streams of one source at most: three layers of two codecs, and as many that are just being replaced."""

_TELLS_LOSS: Final[Callable[[Series], bool]] = attrgetter("tells_loss")
_TELLS_CONCEALMENT: Final[Callable[[Series], bool]] = attrgetter("tells_concealment")


@dataclass(frozen=True, slots=True)
class Expected:
    """Whether media ought to come. ``wanted``: False where the receiver asked for none (DOWNLINK). ``sent``: whether
    the publisher sends, None unknown. ``screen``: a picture that may stand still."""

    muted: bool = False
    wanted: bool = True
    sent: bool | None = None
    screen: bool = False

    @property
    def media(self) -> bool:
        """Whether silence on the line is a fault."""
        if self.muted or not self.wanted or self.sent is False:
            return False
        return self.sent is True or not self.screen


class Told(NamedTuple):
    """What one source told. ``time_s``: when, on its clock (seconds UTC). ``age_s``: how long ago that came here."""

    source: Source
    time_s: float
    age_s: float
    total: Sample
    layers: list[Sample]


class Evidence(NamedTuple):
    """``packets`` lost of expected; ``concealed`` frames of sound of 20 ms; ``gap_s``: the longest in which nothing
    arrived at the receiver. None: not told."""

    packets: Packets | None
    concealed: Packets | None
    gap_s: float | None


class Meter:
    """Owner of what is measured of one track on one hop."""

    def __init__(self, hop: Hop, media: Media) -> None:
        self.hop: Final = hop
        self.media: Final = media
        self._expected = Expected()
        self._series: dict[Source, Series] = {}
        self._sfu: tuple[float, float] | None = None
        self._packets = Tally()
        self._concealed = Tally()
        self._gaps = Gaps()
        self._known_s = 0.0
        self._known: dict[float, Sample | None] = {}
        """The totals by span, as of that moment: they are asked for again and again."""

    @property
    def expected(self) -> Expected:
        """As it was told last."""
        return self._expected

    def add(self, readings: Sequence[Reading]) -> Break | None:
        """Takes the readings of all streams of one source at one moment; says what ended the window, if anything."""
        if not readings:
            return None
        self._known.clear()
        source = readings[0].source
        series = self._series.get(source)
        if series is None:
            series = self._series[source] = Series(self.hop, self.media)
        added = series.add(readings[:MAX_STREAMS])
        if self.hop is Hop.DOWNLINK:
            self._gaps.add(readings)
        now_s = readings[0].arrival_s
        if added.packets is not None and source is self._teller(now_s, _TELLS_LOSS):
            self._packets.add(added.packets)
        if added.concealed is not None and source is self._teller(now_s, _TELLS_CONCEALMENT):
            self._concealed.add(added.concealed)
        # The debug view tells only while somebody receives: that it was silent is no gap of the track's.
        return added.broke if source is not Source.DEBUG_VIEW else None

    def score(self, score: float, now_s: float) -> None:
        """LiveKit's score of the participant, 1 to 5, told at ``now_s`` (monotonic)."""
        self._known.clear()
        self._sfu = (score, now_s)

    def expect(self, expected: Expected) -> None:
        """Whether media ought to come. A change ends the windows: numbers before and after it do not mix."""
        if (expected.muted, expected.wanted) != (self._expected.muted, self._expected.wanted):
            self.interrupt()
        self._known.clear()
        self._expected = expected

    def interrupt(self) -> None:
        """Ends all windows: somebody reconnected."""
        self._known.clear()
        for series in self._series.values():
            series.interrupt()
        self._packets.take()
        self._concealed.take()
        self._gaps.end()

    def taken(self) -> Evidence:
        """What was told since this was called last, each packet once.

        Each by the most trusted source that tells of it, loss before repair where that is known. None where none were
        told. ``lost`` may be below 0: some that were told lost came late.
        """
        packets, concealed, gap_s = self._packets.take(), self._concealed.take(), self._gaps.take()
        return Evidence(packets, concealed, gap_s if self._expected.media else None)

    def layers(self, span_s: float, now_s: float) -> list[Sample]:
        """A sample for each stream of the most trusted source that tells of it of late, lowest first."""
        for source in TRUST:
            series = self._series.get(source)
            if series is not None and now_s - series.arrival_s <= MAX_AGE_S:
                return [self._judged(sample) for sample in series.samples(span_s, now_s)]
        return []

    def told(self, span_s: float, now_s: float) -> list[Told]:
        """What each source told of late, most trusted first; not LiveKit's score."""
        found = []
        for source in TRUST:
            series = self._series.get(source)
            total = series.total(span_s, now_s) if series is not None else None
            if series is not None and total is not None:
                layers = series.samples(span_s, now_s)
                found.append(Told(source, series.newest_s, now_s - series.arrival_s, self._judged(total), layers))
        return found

    def total(self, span_s: float, now_s: float) -> Sample | None:
        """The track as a whole, over about the last ``span_s``; None where nobody measured it of late."""
        if now_s != self._known_s:
            self._known_s = now_s
            self._known.clear()
        elif span_s in self._known:
            return self._known[span_s]
        sample = self._known[span_s] = self._total(span_s, now_s)
        return sample

    def _total(self, span_s: float, now_s: float) -> Sample | None:
        known = [series for source in TRUST if (series := self._series.get(source)) is not None]
        found = [total for series in known if (total := series.total(span_s, now_s)) is not None]
        if self._sfu is not None:
            score, told_s = self._sfu
            found.append(Sample(sfu_score=Number(score, Source.SFU_SCORE, max(0.0, now_s - told_s))))
        return self._judged(merged(found)) if found else None

    def _judged(self, sample: Sample) -> Sample:
        """Without what is no fault while nothing ought to come, and what a muted source is like."""
        if self._expected.media:
            return sample
        muted = self._expected.muted
        return replace(
            sample,
            stalled_s=None,
            gap_s=None,
            stuck_s=None,
            freezing_s=None,
            frozen=None,
            # Clients tell silence of a microphone that is muted.
            audio_level=None if muted else sample.audio_level,
            brightness=None if muted else sample.brightness,
        )

    def _teller(self, now_s: float, tells: Callable[[Series], bool]) -> Source | None:
        for source in TRUST:
            series = self._series.get(source)
            if series is not None and tells(series) and now_s - series.arrival_s <= MAX_AGE_S:
                return source
        return None
