"""Statistics of tracks: track.v1.TrackStats in proto JSON.

The SDK's messages read 0 where WebRTC has told nothing: what cannot be told from a measured 0 is left out, and so is
what rtc 1.2.1 never fills in (for how long pictures froze).
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from livekit import rtc

_LIMITATIONS: Final = ("NONE", "CPU", "BANDWIDTH", "OTHER")
_MESSAGE_BYTES: Final = 14_000  # LiveKit carries 15 KiB


async def track_stats(track: rtc.Track, most_bps: float) -> dict[str, Any]:
    """Of one track; ``most_bps``: what all that is sent may take together, in bits per second. Without streams where
    nothing goes, or has come."""
    sent = isinstance(track, rtc.LocalVideoTrack | rtc.LocalAudioTrack)
    kinds = [(kind, getattr(entry, kind)) for entry in await track.get_stats() if (kind := entry.WhichOneof("stats"))]
    known = {entry.rtc.id: entry for _, entry in kinds if hasattr(entry, "rtc")}
    found = [entry for kind, entry in kinds if kind == ("outbound_rtp" if sent else "inbound_rtp")]
    streams = [_told(_sent(one, known, most_bps) if sent else _received(one, known)) for one in found]
    measured = _time(found[0].rtc.timestamp / 1e6 if found else datetime.now(UTC).timestamp())
    return {"trackSid": track.sid, "sent": sent, "measureTime": measured, "streams": streams}


def messages(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Those that have streams, as StateReports that LiveKit carries."""
    part: list[str] = []
    for text in [json.dumps(each, separators=(",", ":")) for each in found if each["streams"]]:
        if part and sum(map(len, part)) + len(text) > _MESSAGE_BYTES:
            yield f'{{"stats":[{",".join(part)}]}}'
            part = []
        part.append(text)
    if part:
        yield f'{{"stats":[{",".join(part)}]}}'


def _stream(rtp: Any, own: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"ssrc": rtp.stream.ssrc}
    if rtp.stream.kind == "video":
        told |= {"nackCount": own.nack_count, "framesPerSecond": own.frames_per_second or None}
        told |= {"frameWidth": own.frame_width or None, "frameHeight": own.frame_height or None}
    return told


def _pair(rtp: Any, known: Mapping[str, Any]) -> Any | None:
    """The candidate pair that its stream takes."""
    transport = known.get(rtp.stream.transport_id)
    pair = known.get(transport.transport.selected_candidate_pair_id) if transport is not None else None
    return None if pair is None else pair.candidate_pair


def _sent(rtp: Any, known: Mapping[str, Any], most_bps: float) -> dict[str, Any]:
    own = rtp.outbound
    told = {**_stream(rtp, own), "packets": rtp.sent.packets_sent, "bytes": rtp.sent.bytes_sent}
    if rtp.stream.kind == "video":
        told |= {"rid": own.rid, "frames": own.frames_sent}
        told |= {"retransmittedPackets": own.retransmitted_packets_sent}
        told |= {"retransmittedBytes": own.retransmitted_bytes_sent}
        if own.frames_encoded:
            reason, pair = _LIMITATIONS[own.quality_limitation_reason], _pair(rtp, known)
            if reason == "BANDWIDTH" and pair is not None and pair.available_outgoing_bitrate >= most_bps:
                reason = "OTHER"  # the network has room for all that may be sent
            told["qualityLimitation"] = f"QUALITY_LIMITATION_{reason}"
    elif (source := known.get(own.media_source_id)) is not None:
        told["audioLevel"] = source.audio.audio_level
    if (far := known.get(own.remote_id)) is not None:
        told |= {"packetsLost": far.received.packets_lost, "jitterMs": far.received.jitter * 1e3}
        told["remoteTime"] = _time(far.rtc.timestamp / 1e6)
        if far.remote_inbound.round_trip_time_measurements:
            told["rttMs"] = far.remote_inbound.round_trip_time * 1e3
    return told


def _received(rtp: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    own, came = rtp.inbound, rtp.received
    told = {**_stream(rtp, own), "packets": came.packets_received, "bytes": own.bytes_received}
    told |= {"packetsLost": came.packets_lost, "jitterMs": came.jitter * 1e3}
    if rtp.stream.kind == "video":
        told |= {"frames": own.frames_decoded, "freezeCount": own.freeze_count}
        if own.rtx_ssrc:
            told |= {"retransmittedPackets": own.retransmitted_packets_received}
            told |= {"retransmittedBytes": own.retransmitted_bytes_received}
    elif own.total_samples_received:
        told |= {"concealedSamples": own.concealed_samples, "silentConcealedSamples": own.silent_concealed_samples}
        told |= {"totalSamplesReceived": own.total_samples_received, "audioLevel": own.audio_level}
    if own.jitter_buffer_emitted_count:
        told["jitterBufferDelay"] = f"{own.jitter_buffer_delay:.6f}s"
        told["jitterBufferEmittedCount"] = own.jitter_buffer_emitted_count
    if own.last_packet_received_timestamp:
        told["lastPacketTime"] = _time(own.last_packet_received_timestamp / 1e3)
    if (pair := _pair(rtp, known)) is not None and pair.responses_received:
        told["rttMs"] = pair.current_round_trip_time * 1e3
    return told


def _told(stream: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known, or no number: JSON has no word for that."""
    told = {}
    for name, value in stream.items():
        if isinstance(value, float) and math.isfinite(value):
            told[name] = round(value, 6)
        elif not isinstance(value, float | None):
            told[name] = value
    return told


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
