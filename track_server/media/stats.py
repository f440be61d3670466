"""From the SDK's WebRTC statistics of what is sent to the contract's, leaving out what WebRTC has not told.

The SDK fills fields that WebRTC left out with 0, so 0 means "not told" where a real reading cannot be 0.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

from track.media.v1.media_service_pb2 import HostedTrackStats, RtpStreamStats
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


def available_bps(stats: Iterable[Any]) -> int | None:
    """Bits per second that WebRTC takes the track's connection to carry; None where it does not say."""
    for entry in stats:
        if entry.WhichOneof("stats") == "candidate_pair" and entry.candidate_pair.candidate_pair.nominated:
            return round(entry.candidate_pair.candidate_pair.available_outgoing_bitrate) or None
    return None


def excuse_network(tracks: Iterable[HostedTrackStats], asked_bps: int) -> None:
    """Takes back that bandwidth holds an encoder back, where the connection has all that its tracks may take."""
    for track in tracks:
        if track.available_bps >= asked_bps:
            for stream in track.streams:
                if stream.quality_limitation == QualityLimitation.QUALITY_LIMITATION_BANDWIDTH:
                    stream.quality_limitation = QualityLimitation.QUALITY_LIMITATION_OTHER


class Loudness:
    """How loud the source of a track of sound is, from one statistics to the next.

    W3C webrtc-stats, audioLevel: the root of what totalAudioEnergy grew by over what totalSamplesDuration did.
    libwebrtc takes the peak of each block of sound for its level, so that a sine at full scale has 1.
    """

    def __init__(self) -> None:
        self._energy = 0.0
        self._duration_s: float | None = None

    def since(self, stats: Iterable[Any]) -> float | None:
        """0 to 1, since the call before; None at the first, and where no sound was given. `stats`: the track's."""
        for entry in stats:
            if entry.WhichOneof("stats") == "media_source" and entry.media_source.source.kind == "audio":
                return self._step(entry.media_source.audio)
        return None

    def _step(self, audio: Any) -> float | None:
        energy, seconds_before = audio.total_audio_energy - self._energy, self._duration_s
        self._energy, self._duration_s = audio.total_audio_energy, audio.total_samples_duration
        if seconds_before is None or self._duration_s <= seconds_before:
            return None
        return min(1.0, math.sqrt(max(0.0, energy) / (self._duration_s - seconds_before)))


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
    # Without durations there is no reason either: it reads as the first of them.
    if outbound.quality_limitation_durations:
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
