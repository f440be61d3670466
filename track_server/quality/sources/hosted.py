"""What hosted sessions measure of what they publish, as readings. Pure."""

import math
from typing import Final, Literal

from track.media.v1.media_service_pb2 import HostedTrackStats, RtpStreamStats
from track_server.durations import seconds_of
from track_server.quality.core.measuring.reading import Reading, Source
from track_server.quality.messages import LIMITATIONS

TOLD_LIMITATIONS: Final = {told: limitation for limitation, told in LIMITATIONS.items()}


def hosted_readings(stats: HostedTrackStats, arrival_s: float) -> list[Reading]:
    """A reading for each RTP stream of a track, of statistics that arrived at ``arrival_s`` (monotonic).

    Empty where they have no time: nothing could be differenced.
    """
    if not stats.HasField("measure_time"):
        return []
    time_s = seconds_of(stats.measure_time)
    readings = [_reading(stream, time_s, arrival_s) for stream in stats.streams]
    for reading in readings:
        # Of the source, and so of all its streams.
        reading.audio_level = stats.audio_level if stats.HasField("audio_level") else None
        reading.brightness = stats.brightness if stats.HasField("brightness") else None
    return readings


def _reading(stream: RtpStreamStats, time_s: float, arrival_s: float) -> Reading:
    resent = stream.retransmitted_packets_sent if stream.HasField("retransmitted_packets_sent") else None
    return Reading(
        source=Source.PUBLISHER_STATS,
        ssrc=stream.ssrc,
        time_s=time_s,
        arrival_s=arrival_s,
        rid=stream.rid,
        packets=_less(stream.packets_sent if stream.HasField("packets_sent") else None, resent),
        resent=resent,
        nacks=stream.nack_count if stream.HasField("nack_count") else None,
        payload_bytes=_less(
            stream.bytes_sent if stream.HasField("bytes_sent") else None,
            stream.retransmitted_bytes_sent if stream.HasField("retransmitted_bytes_sent") else None,
        ),
        lost=stream.packets_lost if stream.HasField("packets_lost") else None,
        lost_time_s=seconds_of(stream.remote_time) if stream.HasField("remote_time") else None,
        frames=stream.frames_sent if stream.HasField("frames_sent") else None,
        jitter_ms=_milliseconds(stream, "jitter_ms"),
        rtt_ms=_milliseconds(stream, "rtt_ms"),
        width=stream.frame_width if stream.HasField("frame_width") else None,
        height=stream.frame_height if stream.HasField("frame_height") else None,
        limitation=TOLD_LIMITATIONS.get(stream.quality_limitation),
    )


def _less(sent: int | None, resent: int | None) -> int | None:
    """What was sent for the first time (W3C webrtc-stats: packetsSent and bytesSent include retransmissions)."""
    return None if sent is None or resent is None else sent - resent


def _milliseconds(stream: RtpStreamStats, name: Literal["jitter_ms", "rtt_ms"]) -> float | None:
    """None where it is not told or is no number of 0 or more."""
    if not stream.HasField(name):
        return None
    value: float = getattr(stream, name)
    return value if math.isfinite(value) and value >= 0 else None
