"""One track on one hop: what is measured of it, its level, and what is found wrong. Pure."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from track_server.quality.core.adapting.measure import Measure
from track_server.quality.core.detecting.detection import GAP_S, Change, Detection, Evidence, Facts
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.clumping import Clumping
from track_server.quality.core.measuring.continuity import Break
from track_server.quality.core.measuring.losses import Packets
from track_server.quality.core.measuring.meter import Expected, Meter
from track_server.quality.core.measuring.reading import Flow, Media, Reading
from track_server.quality.core.measuring.sample import Number, Sample
from track_server.quality.core.scoring.level import Grading, Level, Scored
from track_server.quality.core.scoring.score import Picture, score_of

SHORT_S: Final = 5.0
LONG_S: Final = 60.0
LONG_EVERY: Final = 5
"""The long window moves slowly: of sound, whose score rests on packets, it is scored at every fifth tick."""

FRESH_S: Final = 3.0
"""A gauge older than this, in seconds, is not read again: two readings, and one that was missed."""

SILENCE: Final = 0.0005
"""Audio level below which nothing is heard: -66 dBov."""

BLACK: Final = 0.02
"""Mean brightness below which nothing is seen."""

FLAPS_S: Final = 60.0


_ANOTHER: Final = frozenset({Break.GAP, Break.STREAMS})
"""After these it may be another network; a layer, a counter or a clock says nothing of the network."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The track. ``picture``: what a video is expected to be; None unknown."""

    sid: str
    publisher: str
    media: Media
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one tick found. ``changes``: alerts that went on or off. ``fresh``: what was measured since the last tick,
    for the adaptation; empty where nothing came."""

    sample: Sample | None
    level: Level | None
    score: float | None
    changes: list[Change]
    fresh: Measure


class Watch:
    """Owner of everything about one track on one hop."""

    def __init__(self, flow: Flow, subject: Subject) -> None:
        self.flow: Final = flow
        self.subject: Final = subject
        self.meter: Final = Meter(flow.hop, subject.media)
        self.received: int | None = None
        """The layer that arrives of a video, where LiveKit's debug view tells."""
        self._grading = Grading()
        self._detection = Detection(flow.hop, subject.media)
        self._clumping = Clumping()
        self._usual = Usual()
        self._silent = Lasting()
        self._black = Lasting()
        self._changes: deque[float] = deque(maxlen=64)
        self._level: Level | None = None
        self._ticked_s: float | None = None
        # Not all tracks at the same tick.
        self._ticks = sum(flow.track_sid.encode()) % LONG_EVERY
        self._measured_s = -math.inf
        self._ended: list[Change] = []
        self.rtt_ms: float | None = None
        """As it was told at the last tick."""

    @property
    def alerts(self) -> frozenset[AlertKind]:
        """Those that are on."""
        return frozenset(self._detection.active)

    def evidence(self, kind: AlertKind) -> Evidence | None:
        """What that alert rests on; None while it is off."""
        return self._detection.active.get(kind)

    @property
    def suspicions(self) -> frozenset[AlertKind]:
        """Those, and what much speaks for already."""
        return self._detection.leaning()

    @property
    def since_s(self) -> float | None:
        """From when on the evidence of the alerts that are on is; None without one."""
        return min((evidence.since_s for evidence in self._detection.active.values()), default=None)

    def measured(self, now_s: float) -> bool:
        """Whether anything was told of late of media that ought to come."""
        expected = self.meter.expected
        return now_s - self._measured_s <= FRESH_S and expected.wanted and not expected.muted

    def ceased(self, now_s: float) -> bool:
        """Whether something was told until just now, of media that ought to come."""
        expected = self.meter.expected
        silent_s = now_s - self._measured_s
        return FRESH_S < silent_s <= GAP_S and expected.wanted and not expected.muted

    def add(self, readings: Sequence[Reading]) -> None:
        """Takes the readings of one source."""
        broke = self.meter.add(readings)
        if readings:
            self._measured_s = readings[0].arrival_s
        if broke in _ANOTHER:
            self._detection.reset()
            self._clumping = Clumping()

    def expect(self, expected: Expected) -> None:
        """Whether media ought to come."""
        self.meter.expect(expected)
        if expected.muted or not expected.wanted:
            self._ended += self._detection.end()

    def tick(self, now_s: float, other_rtt_ms: float = 0.0) -> Seen:
        """Looks at what is known at ``now_s`` (monotonic), once a second. ``other_rtt_ms``: of the other hop."""
        passed_s = 0.0 if self._ticked_s is None else now_s - self._ticked_s
        self._ticked_s = now_s
        self._ticks += 1
        sample = self.meter.total(SHORT_S, now_s)
        packets, concealed, gap_s = self.meter.taken()
        if packets is not None:
            self._clumping.add(packets)
        ended, self._ended = self._ended, []
        if now_s - self._measured_s > GAP_S:
            ended += self._detection.end()
        if sample is None:
            self.rtt_ms, self._level = None, self._grading.level(now_s)
            return Seen(None, self._level, None, ended, Measure())
        rtt_ms = self.rtt_ms = _fresh(sample.rtt_ms)
        facts = Facts(
            loss=packets,
            concealed=concealed,
            clumping=self._clumping.factor,
            rtt_ms=rtt_ms,
            rtt_rise_ms=None if rtt_ms is None else self._usual.above(rtt_ms),
            stalled_s=_fresh(sample.stalled_s),
            gap_s=self._gap_s(sample, gap_s),
            stuck_s=_fresh(sample.stuck_s),
            cpu_limited=_fresh(sample.cpu_limited),
            cpu_load=_fresh(sample.cpu_load),
            bandwidth_limited=_fresh(sample.bandwidth_limited),
            silent_s=self._silent.seconds(_below(sample.audio_level, SILENCE), now_s),
            black_s=self._black.seconds(_below(sample.brightness, BLACK), now_s),
            level_changes=self._count(now_s),
        )
        changes = ended + self._detection.add(facts, now_s)
        score = self._scored(sample, now_s, other_rtt_ms)
        return Seen(
            sample, self._level, score, changes, self._fresh_measure(sample, packets, concealed, rtt_ms, passed_s)
        )

    def _gap_s(self, sample: Sample, told_s: float | None) -> float | None:
        """Not of a screen, which may stand still at any time, nor of what is known to be more than a gap."""
        if self.meter.expected.screen or AlertKind.STALLED in self._detection.active:
            return None
        now_s = _fresh(sample.gap_s)
        return now_s if told_s is None else max(told_s, now_s or 0.0)

    def _scored(self, sample: Sample, now_s: float, other_rtt_ms: float) -> float | None:
        stalled = sample.stalled_s
        lost = stalled is not None and stalled.age_s <= FRESH_S and AlertKind.STALLED in self._detection.active
        scored = self.score(sample, other_rtt_ms)
        if sample.rtt_ms is None or sample.rtt_ms.age_s > SHORT_S:
            # Of old numbers there is a score, which tells how old they are, and no level.
            scored = None
        before = self._level
        self._level = self._grading.add(scored, now_s, lost=lost)
        if self._ticks % LONG_EVERY == 0 and self.subject.media is Media.AUDIO and not lost and scored is not None:
            # What the short window is too short to tell.
            long = self.meter.total(LONG_S, now_s)
            if long is not None:
                self._level = self._grading.doubt(scored, self.score(long, other_rtt_ms))
        if before is not None and self._level is not None and self._level is not before:
            self._changes.append(now_s)
        return None if scored is None else scored.score

    def score(self, sample: Sample, other_rtt_ms: float = 0.0) -> Scored | None:
        """The score of a sample of this flow, over whatever window; None where too little of it was measured."""
        return score_of(
            self.subject.media,
            sample,
            self.subject.picture,
            other_rtt_ms=other_rtt_ms,
            clumping=self._clumping.factor,
        )

    def _count(self, now_s: float) -> float | None:
        while self._changes and now_s - self._changes[0] > FLAPS_S:
            self._changes.popleft()
        return None if self._level is None else float(len(self._changes))

    def _fresh_measure(
        self,
        sample: Sample,
        packets: Packets | None,
        concealed: Packets | None,
        rtt_ms: float | None,
        passed_s: float,
    ) -> Measure:
        if passed_s <= 0 or not self.measured(self._ticked_s or 0.0):
            return Measure()
        frozen = sample.frozen
        return Measure(
            lost=0.0 if packets is None else packets.lost,
            packets=0.0 if packets is None else packets.expected,
            concealed=0.0 if concealed is None else concealed.lost,
            frames=0.0 if concealed is None else concealed.expected,
            frozen_s=0.0 if frozen is None else passed_s * frozen.part / frozen.whole,
            shown_s=0.0 if frozen is None else passed_s,
            seconds=passed_s,
            rtt_ms=rtt_ms or 0.0,
            rtt_square=(rtt_ms or 0.0) ** 2,
            rtts=0 if rtt_ms is None else 1,
        )


class Usual:
    """What a line's round trip is when nothing fills its queues: its least, which rises by a thousandth a reading, so
    that a new route becomes usual in minutes."""

    def __init__(self) -> None:
        self._least_ms: float | None = None

    def above(self, rtt_ms: float) -> float:
        """How far ``rtt_ms`` is above it, 0 or more."""
        least_ms = self._least_ms
        if least_ms is None or rtt_ms < least_ms:
            self._least_ms = rtt_ms
            return 0.0
        self._least_ms = least_ms + 0.001 * (rtt_ms - least_ms)
        return rtt_ms - least_ms


class Lasting:
    """How long something has been so."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def seconds(self, now_so: bool | None, now_s: float) -> float | None:
        """Seconds that it has been so, 0 where it is not; None, and from the start again, where nobody tells."""
        if not now_so:
            self._since_s = None
            return None if now_so is None else 0.0
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s


def _fresh(number: Number | None) -> float | None:
    return number.value if number is not None and number.age_s <= FRESH_S else None


def _below(number: Number | None, border: float) -> bool | None:
    value = _fresh(number)
    return None if value is None else value < border
