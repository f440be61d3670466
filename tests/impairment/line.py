"""What one direction of a network does to datagrams, and exactly what it did: bounds, counts, and a log of each packet.

| bound | what it does |
|---|---|
| loss | drops at random, each by itself; with a burst length by Gilbert's model: all is dropped while it is bad |
| rate, queue | a bottleneck: packets wait for their turn, and those that find the queue full are dropped |
| | of so many bytes: there is room for a small packet where there is none for a large one |
| | of so many packets: all are treated alike |
| delay | as long for all |
| jitter | up to so much more, drawn for each, **without reordering**: who was drawn early waits for those before |
| dead | drops everything |

Everything passes through it: RTP, and RTCP, STUN and DTLS beside it, as on a real line.
"""

import random
from array import array
from collections import defaultdict, deque
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

_MOST: Final = 4_000_000
"""Packets in the log of one direction: hours of what a test sends. Beyond it there is no truth, and it says so."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one direction of a flow carries.

    ``rate_bps``: bits of UDP payload per second; None: no bound. ``queue_bytes``: what waits for its turn at most; what
    comes on top is dropped, as by a router; ``queue_packets``: so many packets instead, as Linux' pfifo counts.
    ``loss``: 0 to 1, of all packets. ``burst``: packets that are lost in a row
    in the mean, above 1; None: each by itself. ``delay_s``, ``jitter_s``: 0 or more, in seconds. ``dead``: nothing
    passes.
    """

    rate_bps: float | None = None
    queue_bytes: int = 64_000
    _: KW_ONLY
    queue_packets: int | None = None
    loss: float = 0.0
    burst: float | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    dead: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1 or self.delay_s < 0 or self.jitter_s < 0:
            raise ValueError("a loss of 0 to 1, a delay and a jitter of 0 or more")
        if self.burst is not None and not (self.burst > 1 and self.loss * (self.burst + 1) <= self.burst):
            raise ValueError("bursts are longer than one packet, and leave room for what is not lost")


@dataclass(slots=True)
class Count:
    """Packets and their bytes."""

    packets: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.packets += 1
        self.bytes += size


@dataclass(slots=True)
class Counts:
    """What came to one direction of a flow, whole and by the SSRC of RTP, and what of it was passed and dropped."""

    passed: Count = field(default_factory=Count)
    dropped: Count = field(default_factory=Count)
    passed_by_ssrc: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))
    dropped_by_ssrc: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))

    def add(self, packet: bytes, *, passed: bool) -> None:
        """One more."""
        (self.passed if passed else self.dropped).add(len(packet))
        ssrc = ssrc_of(packet)
        if ssrc is not None:
            (self.passed_by_ssrc if passed else self.dropped_by_ssrc)[ssrc].add(len(packet))


@dataclass(slots=True)
class Packets:
    """Every RTP packet of one SSRC in one direction, in columns.

    ``due_s``: when it was through, or would have been had it not been dropped (the loop's clock). ``passed``: 1 or 0.
    ``payload_bytes``: without header and extensions, with SRTP's tag; 0 of padding. ``rtp_time``, ``sequence``: of
    its RTP header; a number that comes again is a retransmission, where that has no stream of its own.
    ``payload_types``: those that were seen; RTX has one of its own, and an SSRC of its own.
    """

    due_s: "array[float]" = field(default_factory=lambda: array("d"))
    passed: "array[int]" = field(default_factory=lambda: array("B"))
    payload_bytes: "array[int]" = field(default_factory=lambda: array("i"))
    rtp_time: "array[int]" = field(default_factory=lambda: array("L"))
    sequence: "array[int]" = field(default_factory=lambda: array("H"))
    payload_types: set[int] = field(default_factory=set)

    def add(self, packet: bytes, due_s: float, *, passed: bool) -> None:
        """One more."""
        self.due_s.append(due_s)
        self.passed.append(passed)
        # What has padding is padding: no encoder of LiveKit's or libwebrtc's pads media.
        self.payload_bytes.append(0 if packet[0] & 0x20 else len(packet) - _header_bytes(packet))
        self.rtp_time.append(int.from_bytes(packet[4:8], "big"))
        self.sequence.append(int.from_bytes(packet[2:4], "big"))
        self.payload_types.add(packet[1] & 0x7F)


class Way:
    """One direction of a flow. ``bounds`` may be changed at any time.

    ``seed``: of all that is drawn. ``log``: every RTP packet by SSRC, where ``logged``. ``changes``: which bounds held
    from when on, as `change` was told.
    """

    def __init__(self, bounds: Bounds, *, seed: int = 0, logged: bool = False) -> None:
        self.bounds = bounds
        self.counts = Counts()
        self.log: dict[int, Packets] | None = defaultdict(Packets) if logged else None
        self.changes: list[tuple[float, Bounds]] = []
        self.overflowed = False
        """More came than the log takes."""
        self._random = random.Random(seed)
        self._bad = False
        self._free_s = 0.0
        self._turns: deque[float] = deque()
        """When those that wait will have had their turn, where they are counted."""
        self._through_s = 0.0
        self._logged = 0

    def seed(self, seed: int) -> None:
        """Draws anew from it."""
        self._random.seed(seed)

    def change(self, bounds: Bounds, now_s: float) -> None:
        """From now on these hold."""
        if bounds.burst is None or bounds.loss == 0:
            self._bad = False
        self.bounds = bounds
        self.changes.append((now_s, bounds))

    def take(self, packet: bytes, now_s: float) -> float | None:
        """Counts the packet; the time at which it is through, or None where it is dropped."""
        due_s, passed = self._due(len(packet), now_s)
        self.counts.add(packet, passed=passed)
        if self.log is not None:
            ssrc = ssrc_of(packet)
            if ssrc is not None and self._logged < _MOST:
                self._logged += 1
                self.log[ssrc].add(packet, due_s, passed=passed)
            elif ssrc is not None:
                self.overflowed = True
        return due_s if passed else None

    def _due(self, size: int, now_s: float) -> tuple[float, bool]:
        bounds = self.bounds
        begun_s = max(self._free_s, now_s)
        if bounds.dead or self._lost():
            return begun_s + bounds.delay_s, False
        if bounds.rate_bps is not None:
            if self._full(bounds, (begun_s - now_s) * bounds.rate_bps / 8 + size, now_s):
                return begun_s + bounds.delay_s, False
            begun_s += size * 8 / bounds.rate_bps
            self._free_s = begun_s
            if bounds.queue_packets is not None:
                self._turns.append(begun_s)
        due_s = begun_s + bounds.delay_s
        if bounds.jitter_s:
            due_s += self._random.random() * bounds.jitter_s
        # In order, also when the delay was lowered just now.
        self._through_s = due_s = max(due_s, self._through_s)
        return due_s, True

    def _full(self, bounds: Bounds, waiting_bytes: float, now_s: float) -> bool:
        """``waiting_bytes``: with the one that comes."""
        if bounds.queue_packets is None:
            return waiting_bytes > bounds.queue_bytes
        while self._turns and self._turns[0] <= now_s:
            self._turns.popleft()
        return len(self._turns) >= bounds.queue_packets

    def _lost(self) -> bool:
        bounds = self.bounds
        if not bounds.loss:
            return False
        if bounds.burst is None:
            return self._random.random() < bounds.loss
        ends = 1 / bounds.burst
        if self._bad:
            self._bad = self._random.random() >= ends
        else:
            self._bad = self._random.random() < ends * bounds.loss / (1 - bounds.loss)
        return self._bad


def ssrc_of(packet: bytes) -> int | None:
    """The SSRC of an RTP packet; None for STUN, DTLS (RFC 7983) and RTCP (RFC 5761)."""
    if len(packet) < 12 or not 128 <= packet[0] <= 191 or 192 <= packet[1] <= 223:
        return None
    return int.from_bytes(packet[8:12], "big")


def _header_bytes(packet: bytes) -> int:
    """Of RTP, with contributing sources and extensions (RFC 3550, 5.1 and 5.3.1), which SRTP leaves in the clear."""
    size = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10 and len(packet) >= size + 4:
        size += 4 + 4 * int.from_bytes(packet[size + 2 : size + 4], "big")
    return min(size, len(packet))
