"""What is measured of a line over a span, and what changed between two spans. Pure.

A verdict rests on counts: two shares differ where the difference is beyond what chance makes of so many packets, lost
in bursts, and is large enough to matter.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from track_server.quality.core.adapting.ladder import Family

Z: Final = 2.0
"""Standard errors between two shares that differ."""

BURST: Final = 3.0
"""So many times fewer than counted are independent: packets are lost in company."""

LEAST_WHOLE: Final = 60.0
"""Packets (or frames of 20 ms) on both sides, at least, for a verdict."""

MATTERS: Final = 0.3
"""Of what it was, a share has to change by so much, as a part of it, to matter."""

MATTERS_SHARE: Final = 0.01
"""...and by so much in all."""

RTT_MATTERS_MS: Final = 30.0
RTT_LEAST: Final = 4
SECONDS_LEAST: Final = 4.0


class Verdict(IntEnum):
    """What an action did."""

    IMPROVED = 1
    NONE = 2
    WORSE = 3
    CANNOT_TELL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Counts over a span; sums of them are those of longer spans. ``lost`` of ``packets``; ``concealed`` of ``frames``
    (20 ms of sound each); ``frozen_s`` of ``shown_s``; ``troubled_s`` of ``seconds``; ``rtt_ms``: a sum over ``rtts``,
    ``rtt_square`` of their squares."""

    lost: float = 0.0
    packets: float = 0.0
    concealed: float = 0.0
    frames: float = 0.0
    frozen_s: float = 0.0
    shown_s: float = 0.0
    troubled_s: float = 0.0
    seconds: float = 0.0
    rtt_ms: float = 0.0
    rtt_square: float = 0.0
    rtts: int = 0

    @property
    def loss(self) -> float:
        """Share of packets lost, 0 to 1; 0 without packets."""
        return max(0.0, self.lost) / self.packets if self.packets > 0 else 0.0

    @property
    def mean_rtt_ms(self) -> float | None:
        """None without a reading."""
        return self.rtt_ms / self.rtts if self.rtts else None


NOTHING: Final = Measure()


def total(measures: Iterable[Measure]) -> Measure:
    """All of them together."""
    lost = packets = concealed = frames = frozen_s = shown_s = troubled_s = seconds = rtt_ms = rtt_square = 0.0
    rtts = 0
    for each in measures:
        lost += each.lost
        packets += each.packets
        concealed += each.concealed
        frames += each.frames
        frozen_s += each.frozen_s
        shown_s += each.shown_s
        troubled_s += each.troubled_s
        seconds += each.seconds
        rtt_ms += each.rtt_ms
        rtt_square += each.rtt_square
        rtts += each.rtts
    return Measure(
        lost=lost,
        packets=packets,
        concealed=concealed,
        frames=frames,
        frozen_s=frozen_s,
        shown_s=shown_s,
        troubled_s=troubled_s,
        seconds=seconds,
        rtt_ms=rtt_ms,
        rtt_square=rtt_square,
        rtts=rtts,
    )


def verdict(family: Family, before: Measure, after: Measure) -> Verdict:
    """What changed. A machine's relief and a restart show in whether the trouble is over, a network's in its numbers.

    CANNOT_TELL: too little was measured, or one number got better and another worse.
    """
    if family in (Family.RECEIVER, Family.SENDER, Family.MEDIA):
        return compared(
            before.troubled_s, before.seconds, after.troubled_s, after.seconds, least=SECONDS_LEAST, burst=1.0
        )
    found = {
        compared(before.lost, before.packets, after.lost, after.packets),
        compared(before.concealed, before.frames, after.concealed, after.frames),
        compared(before.frozen_s, before.shown_s, after.frozen_s, after.shown_s, least=SECONDS_LEAST, burst=1.0),
        _later(before, after),
    } - {Verdict.CANNOT_TELL}
    if {Verdict.IMPROVED, Verdict.WORSE} <= found or not found:
        return Verdict.CANNOT_TELL
    return min(found - {Verdict.NONE}, default=Verdict.NONE)


def compared(
    part: float,
    whole: float,
    later_part: float,
    later_whole: float,
    *,
    least: float = LEAST_WHOLE,
    burst: float = BURST,
) -> Verdict:
    """What became of a share; shares are of bad things. Two-proportion test with a pooled share."""
    if min(whole, later_whole) < least or min(whole, later_whole) <= 0:
        return Verdict.CANNOT_TELL
    first, last = max(0.0, part) / whole, max(0.0, later_part) / later_whole
    pooled = (max(0.0, part) + max(0.0, later_part)) / (whole + later_whole)
    error = math.sqrt(max(0.0, pooled * (1 - pooled)) * burst * (1 / whole + 1 / later_whole))
    change = last - first
    if abs(change) <= max(Z * error, MATTERS * max(first, last), MATTERS_SHARE):
        return Verdict.NONE
    return Verdict.IMPROVED if change < 0 else Verdict.WORSE


def _later(before: Measure, after: Measure) -> Verdict:
    first, last = before.mean_rtt_ms, after.mean_rtt_ms
    if first is None or last is None or before.rtts < RTT_LEAST or after.rtts < RTT_LEAST:
        return Verdict.CANNOT_TELL
    error = math.sqrt(_variance(before) / before.rtts + _variance(after) / after.rtts)
    change = last - first
    if abs(change) <= max(Z * error, RTT_MATTERS_MS, MATTERS * max(first, last)):
        return Verdict.NONE
    return Verdict.IMPROVED if change < 0 else Verdict.WORSE


def _variance(measure: Measure) -> float:
    mean = measure.rtt_ms / measure.rtts
    return max(0.0, measure.rtt_square / measure.rtts - mean * mean)
