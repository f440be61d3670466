"""Two readings of an RTP stream's counters, and what lies between them. Pure."""

import math
from typing import Final, Literal

from google.protobuf import timestamp_pb2

from track.media.v1.media_service_pb2 import RtpStreamStats

Counter = Literal[
    "packets_sent",
    "bytes_sent",
    "retransmitted_packets_sent",
    "retransmitted_bytes_sent",
    "frames_sent",
    "nack_count",
    "pli_count",
]

_COUNTERS: Final[tuple[Counter, ...]] = (
    "packets_sent",
    "bytes_sent",
    "retransmitted_packets_sent",
    "retransmitted_bytes_sent",
    "frames_sent",
    "nack_count",
    "pli_count",
)


def difference(before: RtpStreamStats, after: RtpStreamStats, counter: Counter) -> int | None:
    """How far ``counter`` moved; None where one of the two does not tell it."""
    if not (before.HasField(counter) and after.HasField(counter)):
        return None
    moved: int = getattr(after, counter) - getattr(before, counter)
    return moved


def went_back(before: RtpStreamStats, after: RtpStreamStats) -> bool:
    """Whether a counter of the sender is lower in ``after``, so that it began anew in between."""
    return any((difference(before, after, counter) or 0) < 0 for counter in _COUNTERS)


def payload(before: RtpStreamStats, after: RtpStreamStats) -> int | None:
    """Payload bytes sent for the first time; W3C webrtc-stats: bytesSent includes retransmissions."""
    sent = difference(before, after, "bytes_sent")
    resent = difference(before, after, "retransmitted_bytes_sent")
    return None if sent is None or resent is None else sent - resent


def sent_media(before: RtpStreamStats, after: RtpStreamStats) -> bool:
    """Whether media was sent in between. Packets alone do not tell it: bandwidth probes are packets of padding."""
    for progress in (difference(before, after, "frames_sent"), payload(before, after)):
        if progress is not None:
            return progress > 0
    first, last = packets_expected(before), packets_expected(after)
    return first is not None and last is not None and last > first


def packets_expected(stream: RtpStreamStats) -> int | None:
    """Packets sent, each counted once: as many sequence numbers LiveKit expects. None where it is not told.

    W3C webrtc-stats: packetsSent includes retransmissions.
    """
    if not (stream.HasField("packets_sent") and stream.HasField("retransmitted_packets_sent")):
        return None
    return stream.packets_sent - stream.retransmitted_packets_sent


def reading(stream: RtpStreamStats, name: Literal["jitter_ms", "rtt_ms"]) -> float | None:
    """A reading in milliseconds; None where it is not told or is no number of 0 or more."""
    if not stream.HasField(name):
        return None
    value: float = getattr(stream, name)
    return value if math.isfinite(value) and value >= 0 else None


def rate(moved: int | None, seconds: float) -> float | None:
    """``moved`` per second; None where it is not told or negative."""
    return None if moved is None or moved < 0 else moved / seconds


def seconds_of(stamp: timestamp_pb2.Timestamp) -> float:
    """``stamp`` in seconds since 1970 UTC."""
    return stamp.seconds + stamp.nanos * 1e-9
