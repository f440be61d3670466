"""Which readings of strangers are believed. Pure.

ReportTrackStats and companions bring what somebody else's program says. A reading that cannot be true is refused as a
whole, with the field that gives it away; one that only continues nothing is left to `continuity`.
"""

import math
from dataclasses import dataclass
from typing import Final

from track_server.quality.core.measuring.reading import Reading

FUTURE_S: Final = 5.0
"""How far a source's clock may run ahead of ours, in seconds: clocks that are kept by NTP are within one."""

PAST_S: Final = 60.0
"""Older than this, in seconds, it says nothing that the longest window (60 s) would hold."""

_MOST: Final = {
    "packets": 2**48,
    "resent": 2**48,
    "nacks": 2**48,
    "payload_bytes": 2**60,
    "frames": 2**48,
    "freezes_s": 1e8,
    "concealed": 2**60,
    "samples": 2**60,
    "buffer_s": 1e12,
    "buffered": 2**60,
    "jitter_ms": 60_000.0,
    "rtt_ms": 60_000.0,
    "width": 16_384,
    "height": 16_384,
    "audio_level": 1.0,
    "brightness": 1.0,
    "cpu_load": 1.0,
}
"""The largest that is believed; 0 is the least of all of them."""

_FASTEST: Final = {"packets": 100_000.0, "resent": 100_000.0, "payload_bytes": 1.25e8, "frames": 1_000.0}
"""The fastest that is believed, per second: 1 Gbit/s, and packets and frames to go with it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reading is not taken. ``reason``: a clause for the caller, lower case."""

    field: str
    reason: str


def refusal(reading: Reading, now_s: float, before: Reading | None = None) -> Refusal | None:
    """Why ``reading`` is not believed; None where it is.

    ``now_s``: seconds UTC here. ``before``: the last of the same stream that was, if any.
    """
    if not math.isfinite(reading.time_s):
        return Refusal("time", "is no point in time")
    if reading.time_s > now_s + FUTURE_S:
        return Refusal("time", "lies in the future")
    if reading.time_s < now_s - PAST_S:
        return Refusal("time", "is too old")
    if not 0 <= reading.ssrc < 2**32:
        return Refusal("ssrc", "is no SSRC")
    for name, most in _MOST.items():
        value = getattr(reading, name)
        # Not a number is neither above nor below anything.
        if value is not None and not 0 <= value <= most:
            return Refusal(name, "is out of range")
    if reading.lost is not None and not -(2**48) <= reading.lost <= 2**48:
        return Refusal("lost", "is out of range")
    for name in ("lost_time_s", "last_packet_s"):
        value = getattr(reading, name)
        if value is None:
            continue
        if not abs(value - reading.time_s) <= PAST_S * 60:
            return Refusal(name, "is out of range")
        if value - reading.time_s > FUTURE_S:
            return Refusal(name, "lies after the time of measuring")
    if reading.concealed is not None and reading.samples is not None and reading.concealed > reading.samples:
        return Refusal("concealed", "is more than there were samples")
    return None if before is None else _too_fast(before, reading)


def _too_fast(before: Reading, after: Reading) -> Refusal | None:
    seconds = after.time_s - before.time_s
    if seconds <= 0:
        return None
    for name, fastest in _FASTEST.items():
        first, last = getattr(before, name), getattr(after, name)
        # What is sent in a burst within a short time may be read at once.
        if first is not None and last is not None and last - first > fastest * (seconds + 1.0):
            return Refusal(name, "grows faster than any network carries")
    return None
