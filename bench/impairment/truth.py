"""What really happened on a line: every RTP packet that came to the relay, and what was in force when. Pure.

Times are seconds UTC of this machine's clock: publisher, LiveKit, subscriber, service and relay all run on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.impairment.line import Bounds

SRTP_TAG_BYTES: Final = 10
"""AES_CM_128_HMAC_SHA1_80 (RFC 3711), which LiveKit and libwebrtc agree on: payloads on the line are longer by it. With
it the relay's sum is to the byte what `bytesSent` of the publisher says."""

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lost:
    """So many packets of so many."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        """0 to 100; 0 of none."""
        return 100.0 * self.part / self.whole if self.whole else 0.0


@dataclass(frozen=True, slots=True)
class Stream:
    """Packets of one SSRC in one direction, by the time at which they were through or would have been.

    ``first``: not for what was sent again under the same number: that is lost like any other, and is no media more.
    ``payload_bytes``: of media, 0 for packets of padding alone. ``payload_types``: those seen. ``never_s``: when those
    would have come that their sender numbered and never let out, between what came before and after them: a line that
    is dead for longer than 5 s is to WebRTC no line, and it throws away what it made for it.
    """

    ssrc: int
    due_s: Times
    passed: NDArray[np.bool_]
    payload_bytes: NDArray[np.int64]
    rtp_time: NDArray[np.int64]
    first: NDArray[np.bool_]
    payload_types: frozenset[int] = frozenset()
    never_s: Times = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def made(cls, ssrc: int, columns: Mapping[str, Any], offset_s: float, *, at_source: bool = False) -> "Stream":
        """Of the relay's log; ``offset_s`` takes its clock to UTC. ``at_source``: whoever numbers the packets is at the
        line's near end. LiveKit keeps the gaps of what it forwards, so on a downlink they say nothing of the line."""
        due_s = np.asarray(columns["due_s"], np.float64) + offset_s
        order = np.argsort(due_s, kind="stable")
        payload = np.asarray(columns["payload_bytes"], np.int64)
        numbers, first = _numbered(np.asarray(columns["sequence"], np.int64))
        return cls(
            ssrc,
            due_s[order],
            np.asarray(columns["passed"], np.bool_)[order],
            np.maximum(0, payload - SRTP_TAG_BYTES)[order],
            np.asarray(columns["rtp_time"], np.int64)[order],
            first[order],
            frozenset(int(each) for each in columns["payload_types"]),
            _missing(numbers[first], due_s[first]) if at_source else np.zeros(0),
        )

    def within(self, begin_s: float, end_s: float) -> slice:
        """Those due in (begin, end]."""
        return slice(
            int(np.searchsorted(self.due_s, begin_s, "right")), int(np.searchsorted(self.due_s, end_s, "right"))
        )

    def lost(self, begin_s: float, end_s: float) -> Lost:
        """Dropped or never let out, of all, what was sent again included."""
        passed = self.passed[self.within(begin_s, end_s)]
        never = int(np.count_nonzero((self.never_s > begin_s) & (self.never_s <= end_s)))
        return Lost(int(passed.size - np.count_nonzero(passed)) + never, int(passed.size) + never)

    def payload(self, begin_s: float, end_s: float, *, passed_only: bool, less: int = 0) -> int:
        """Bytes of media: sent, or those that passed; each packet's so many bytes ``less``."""
        chosen = self.within(begin_s, end_s)
        sizes = self.payload_bytes[chosen][self._media(chosen, passed_only)]
        return int(np.maximum(0, sizes - less).sum())

    def frames(self, begin_s: float, end_s: float, *, passed_only: bool) -> int:
        """Pictures: packets of one have one RTP timestamp, and padding is none."""
        chosen = self.within(begin_s, end_s)
        counts = self._media(chosen, passed_only) & (self.payload_bytes[chosen] > 0)
        return int(np.unique(self.rtp_time[chosen][counts]).size)

    def _media(self, chosen: slice, passed_only: bool) -> NDArray[np.bool_]:
        return self.first[chosen] & self.passed[chosen] if passed_only else self.first[chosen]


@dataclass(frozen=True, slots=True)
class Change:
    """From ``time_s`` on these bounds hold."""

    time_s: float
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of one participant's line. ``changes``: by time."""

    streams: Mapping[int, Stream] = field(default_factory=dict)
    changes: Sequence[Change] = ()

    def bounds(self, time_s: float) -> Bounds:
        """What was in force."""
        return next((each.bounds for each in reversed(self.changes) if each.time_s <= time_s), Bounds())

    def steady(self, begin_s: float, end_s: float) -> bool:
        """Whether nothing was changed in between."""
        return not any(begin_s < each.time_s <= end_s for each in self.changes)


@dataclass(frozen=True, slots=True)
class Line:
    """Both directions of one participant. ``late``: how late the relay came to its own work (nine of ten times at most,
    in seconds), by the end of each second."""

    up: Direction = Direction()
    down: Direction = Direction()
    late: Sequence[tuple[float, float]] = ()

    def settled(self, begin_s: float, end_s: float) -> bool:
        """Whether nothing was changed in between, and delays alone are in force: of queues and jitter none is known."""
        return all(
            each.steady(begin_s, end_s) and (now := each.bounds(end_s)).rate_bps is None and not now.jitter_s
            for each in (self.up, self.down)
        )

    def late_s(self, begin_s: float, end_s: float) -> float:
        """The worst of that span, and of the second after it."""
        return max((late_s for at_s, late_s in self.late if begin_s < at_s <= end_s + 1), default=0.0)

    def rtt_ms(self, time_s: float) -> float:
        """What the relay adds to a round trip."""
        return 1000.0 * (self.up.bounds(time_s).delay_s + self.down.bounds(time_s).delay_s)


@dataclass(frozen=True, slots=True)
class Truth:
    """Of one run. ``lines``: by participant. ``sent_as``: SSRCs of each track on its way to LiveKit, by SID;
    ``received_as``: of each track on its way to each subscriber, by SID and identity (LiveKit's debug view)."""

    lines: Mapping[str, Line] = field(default_factory=dict)
    sent_as: Mapping[str, frozenset[int]] = field(default_factory=dict)
    received_as: Mapping[tuple[str, str], frozenset[int]] = field(default_factory=dict)

    def uplink(self, track_sid: str, publisher: str) -> list[Stream]:
        """A track's streams to LiveKit."""
        line = self.lines.get(publisher)
        return [] if line is None else _chosen(line.up, self.sent_as.get(track_sid, frozenset()))

    def downlink(self, track_sid: str, subscriber: str) -> list[Stream]:
        """A track's streams to one subscriber."""
        line = self.lines.get(subscriber)
        return [] if line is None else _chosen(line.down, self.received_as.get((track_sid, subscriber), frozenset()))

    def repairs(self, subscriber: str) -> list[Stream]:
        """Streams to a subscriber that are of no track: retransmissions, where there is one video alone."""
        line = self.lines.get(subscriber)
        media = {ssrc for ssrcs in self.received_as.values() for ssrc in ssrcs}
        return [] if line is None else [each for ssrc, each in line.down.streams.items() if ssrc not in media]


def lost(streams: Sequence[Stream], begin_s: float, end_s: float) -> Lost:
    """Of all of them."""
    counts = [stream.lost(begin_s, end_s) for stream in streams]
    return Lost(sum(count.part for count in counts), sum(count.whole for count in counts))


def _numbered(sequence: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers that go on where those of 16 bits go round, and whether each comes for the first time."""
    numbers = np.cumsum((np.diff(sequence, prepend=sequence[:1]) + 0x8000) % 0x10000 - 0x8000)
    first = np.zeros(sequence.size, np.bool_)
    first[np.unique(numbers, return_index=True)[1]] = True
    return numbers, first


def _missing(numbers: NDArray[np.int64], due_s: Times) -> Times:
    """When the numbers that are not there would have come: evenly between their neighbours."""
    order = np.argsort(numbers)
    there, at_s = numbers[order], due_s[order]
    absent = np.setdiff1d(np.arange(there[0], there[-1]), there, assume_unique=True)
    return np.sort(np.interp(absent, there, at_s))


def _chosen(direction: Direction, ssrcs: frozenset[int]) -> list[Stream]:
    return [direction.streams[ssrc] for ssrc in sorted(ssrcs) if ssrc in direction.streams]
