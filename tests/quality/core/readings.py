"""Readings for tests, by the second."""

from dataclasses import replace
from typing import Any

from track_server.quality.core.measuring.reading import Reading, Source


def sent(second: float, **change: Any) -> Reading:
    """Sound that is sent: 50 packets of 100 bytes a second, reported at once."""
    packets = round(50 * second)
    reading = Reading(
        source=Source.PUBLISHER_STATS, ssrc=1, time_s=1e9 + second, arrival_s=second, packets=packets, resent=0,
        payload_bytes=100 * packets, lost=0, lost_time_s=1e9 + second, jitter_ms=2.0, rtt_ms=30.0,
    )  # fmt: skip
    return replace(reading, **change)


def received(second: float, **change: Any) -> Reading:
    """Video that is received: 100 packets and 30 frames a second, 640x360."""
    packets = round(100 * second)
    reading = Reading(
        source=Source.SUBSCRIBER_STATS, ssrc=2, time_s=1e9 + second, arrival_s=second, packets=packets, resent=0,
        payload_bytes=1_000 * packets, frames=round(30 * second), freezes_s=0.0, lost=0, width=640, height=360,
        jitter_ms=2.0, rtt_ms=30.0,
    )  # fmt: skip
    return replace(reading, **change)
