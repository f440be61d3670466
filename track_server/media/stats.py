"""From the SDK's WebRTC statistics to the contract's, leaving out what WebRTC has not told.

The SDK fills fields that WebRTC left out with 0, so 0 means "not told" where a real reading cannot be 0.
"""

from collections.abc import Iterable
from typing import Any, Final

from track.media.v1.media_service_pb2 import RtpStreamStats
from track.v1.quality_pb2 import QualityLimitation

_LIMITATIONS: Final = {
    "LIMITATION_NONE": QualityLimitation.QUALITY_LIMITATION_NONE,
    "LIMITATION_CPU": QualityLimitation.QUALITY_LIMITATION_CPU,
    "LIMITATION_BANDWIDTH": QualityLimitation.QUALITY_LIMITATION_BANDWIDTH,
    "LIMITATION_OTHER": QualityLimitation.QUALITY_LIMITATION_OTHER,
}


def rtp_streams(stats: Iterable[Any]) -> list[RtpStreamStats]:
    """One entry an RTP stream that is sent, by RTP stream id; `stats` are RtcStats messages of one track."""
    found = list(stats)
    remotes = {
        entry.remote_inbound_rtp.remote_inbound.local_id: entry.remote_inbound_rtp
        for entry in found
        if entry.WhichOneof("stats") == "remote_inbound_rtp"
    }
    sent = [entry.outbound_rtp for entry in found if entry.WhichOneof("stats") == "outbound_rtp"]
    return [_stream(entry, remotes.get(entry.rtc.id)) for entry in sorted(sent, key=lambda entry: entry.outbound.rid)]


def _stream(entry: Any, remote: Any | None) -> RtpStreamStats:
    stream = RtpStreamStats(
        ssrc=entry.stream.ssrc,
        rid=entry.outbound.rid,
        packets_sent=entry.sent.packets_sent,
        bytes_sent=entry.sent.bytes_sent,
        retransmitted_packets_sent=entry.outbound.retransmitted_packets_sent,
        retransmitted_bytes_sent=entry.outbound.retransmitted_bytes_sent,
    )
    if entry.stream.kind == "video":
        _add_video(stream, entry.outbound)
    if remote is not None:
        _add_remote(stream, remote)
    return stream


def _add_video(stream: RtpStreamStats, outbound: Any) -> None:
    stream.frames_sent = outbound.frames_sent
    stream.nack_count = outbound.nack_count
    stream.pli_count = outbound.pli_count
    stream.key_frames_encoded = outbound.key_frames_encoded
    reason = type(outbound).DESCRIPTOR.fields_by_name["quality_limitation_reason"].enum_type.values_by_number
    stream.quality_limitation = _LIMITATIONS[reason[outbound.quality_limitation_reason].name]
    if outbound.frame_width:
        stream.frame_width = outbound.frame_width
        stream.frame_height = outbound.frame_height


def _add_remote(stream: RtpStreamStats, remote: Any) -> None:
    stream.packets_lost = remote.received.packets_lost
    stream.jitter_ms = remote.received.jitter * 1e3
    # Microseconds since 1970: when LiveKit's report came in.
    stream.remote_time.FromMicroseconds(remote.rtc.timestamp)
    if remote.remote_inbound.round_trip_time_measurements:
        stream.rtt_ms = remote.remote_inbound.round_trip_time * 1e3
