"""From the SDK's WebRTC statistics of what is received to the contract's, leaving out what WebRTC has not told.

The SDK fills fields that WebRTC left out with 0. Never told by it (rtc 1.2.1): totalFreezesDuration, and the round trip
of a receiver but for its connection's.
"""

from collections.abc import Iterable
from typing import Any, Final

from track.v1.quality_stats_pb2 import StreamStats, TrackStats

CHECK_S: Final = 6.0
"""ICE checks the connection every 2.5 s: a round trip that no answer has renewed for so long says nothing of now."""


class RoundTrip:
    """That of the connection, as ICE checks it."""

    def __init__(self) -> None:
        self._pair = ""
        self._answers = 0
        self._answered_s = 0.0

    def at(self, stats: Iterable[Any], now_s: float) -> float | None:
        """In milliseconds, whole ones; None where nothing was answered of late. `stats`: of any track of it."""
        for entry in stats:
            if entry.WhichOneof("stats") == "candidate_pair" and entry.candidate_pair.candidate_pair.nominated:
                return self._step(entry.candidate_pair.rtc.id, entry.candidate_pair.candidate_pair, now_s)
        return None

    def _step(self, pair_id: str, pair: Any, now_s: float) -> float | None:
        if pair_id != self._pair or pair.responses_received != self._answers:
            self._pair, self._answers, self._answered_s = pair_id, pair.responses_received, now_s
        if not self._answers or now_s - self._answered_s > CHECK_S:
            return None
        return float(pair.current_round_trip_time) * 1e3


def received(track_sid: str, stats: Iterable[Any], rtt_ms: float | None, time_ns: int) -> TrackStats | None:
    """Of one track; None before the first packet. ``time_ns``: now, since 1970 UTC."""
    entries = [entry.inbound_rtp for entry in stats if entry.WhichOneof("stats") == "inbound_rtp"]
    streams = [_stream(entry, rtt_ms) for entry in entries if entry.received.packets_received]
    if not streams:
        return None
    result = TrackStats(track_sid=track_sid, streams=streams)
    result.measure_time.FromNanoseconds(time_ns)
    return result


def _stream(entry: Any, rtt_ms: float | None) -> StreamStats:
    received, inbound = entry.received, entry.inbound
    stream = StreamStats(
        ssrc=entry.stream.ssrc,
        packets=received.packets_received,
        bytes=inbound.bytes_received,
        packets_lost=received.packets_lost,
        jitter_ms=received.jitter * 1e3,
    )
    if rtt_ms is not None:
        stream.rtt_ms = rtt_ms
    if inbound.last_packet_received_timestamp:
        # Milliseconds since 1970.
        stream.last_packet_time.FromMicroseconds(round(inbound.last_packet_received_timestamp * 1e3))
    if inbound.rtx_ssrc:
        stream.retransmitted_packets = inbound.retransmitted_packets_received
        stream.retransmitted_bytes = inbound.retransmitted_bytes_received
    if inbound.jitter_buffer_emitted_count:
        stream.jitter_buffer_delay.FromMicroseconds(round(inbound.jitter_buffer_delay * 1e6))
        stream.jitter_buffer_emitted_count = inbound.jitter_buffer_emitted_count
    if entry.stream.kind == "video":
        _add_video(stream, inbound)
    else:
        _add_audio(stream, inbound)
    return stream


def _add_video(stream: StreamStats, inbound: Any) -> None:
    stream.frames = inbound.frames_decoded
    stream.freeze_count = inbound.freeze_count
    stream.nack_count = inbound.nack_count
    if inbound.frame_width:
        stream.frame_width, stream.frame_height = inbound.frame_width, inbound.frame_height


def _add_audio(stream: StreamStats, inbound: Any) -> None:
    if inbound.total_samples_received:
        stream.total_samples_received = inbound.total_samples_received
        stream.concealed_samples = inbound.concealed_samples
        stream.silent_concealed_samples = inbound.silent_concealed_samples
        stream.audio_level = min(1.0, inbound.audio_level)
