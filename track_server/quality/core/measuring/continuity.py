"""Whether one reading of a stream continues another, or a new window has to begin. Pure."""

from enum import Enum
from typing import Final

from track_server.quality.core.measuring.reading import Reading

MAX_GAP_S: Final = 15.0
"""Two readings further apart than this, in seconds, are not differenced: three of the longest intervals asked for."""

CLOCK_TOLERANCE_S: Final = 1.0
"""How far the time between two readings on the source's clock may differ from that between their arrivals, in
seconds, before it counts as a step of that clock."""


class Break(Enum):
    """Why a window ended."""

    RESET = "a counter began anew"
    GAP = "nothing was told for too long"
    CLOCK = "the source's clock stepped"
    STREAMS = "other RTP streams"
    LAYER = "another layer"
    TOLD = "muted, unmuted, or connected anew"


def late(before: Reading, after: Reading) -> bool:
    """Whether ``after`` was taken before ``before`` and came late, or is the same again: it is left out.

    Nothing comes later than MAX_GAP_S: there the source's clock was set back.
    """
    if not before.time_s - MAX_GAP_S <= after.time_s <= before.time_s:
        return False
    return after.time_s == before.time_s or went_back(before, after)


def broken(before: Reading, after: Reading) -> Break | None:
    """What keeps the two from being differenced; None where they can be."""
    seconds = after.time_s - before.time_s
    if abs(seconds - (after.arrival_s - before.arrival_s)) > CLOCK_TOLERANCE_S or seconds <= 0:
        return Break.CLOCK
    if seconds > MAX_GAP_S:
        return Break.GAP
    if went_back(before, after):
        return Break.RESET
    # Under one SSRC LiveKit hands a subscriber one layer after another; their sizes tell them apart.
    if before.height != after.height and before.height is not None and after.height is not None:
        return Break.LAYER
    return None


def went_back(before: Reading, after: Reading) -> bool:
    """Whether a counter that only grows is lower in ``after``. Loss is none of them: repair makes it fall."""
    first, last = before.packets, after.packets
    if first is not None and last is not None and last < first:
        return True
    first, last = before.payload_bytes, after.payload_bytes
    if first is not None and last is not None and last < first:
        return True
    first, last = before.resent, after.resent
    if first is not None and last is not None and last < first:
        return True
    first, last = before.frames, after.frames
    if first is not None and last is not None and last < first:
        return True
    first, last = before.samples, after.samples
    return first is not None and last is not None and last < first
