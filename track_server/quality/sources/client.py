"""What a participant's client measures, as readings; and which of it is believed. Pure: clocks are given.

The client is somebody else's program, by its companion or through ReportTrackStats. It tells of what its participant
sends and receives, which LiveKit knows, and of nothing else.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from track.v1.quality_stats_pb2 import StreamStats, TrackStats
from track.v1.track_pb2 import Track
from track_server.durations import seconds_of
from track_server.errors import StatsRefused, TrackNotFound
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.admission import FUTURE_S, PAST_S, refusal
from track_server.quality.core.measuring.continuity import MAX_GAP_S, went_back
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Reading, Source
from track_server.quality.messages import MEDIA
from track_server.quality.sources.hosted import TOLD_LIMITATIONS

REMEMBERED: Final = 16
"""So many messages back the way of one is looked for that was not held up."""

_FIELDS: Final = {
    "resent": "retransmitted_packets",
    "nacks": "nack_count",
    "payload_bytes": "bytes",
    "lost": "packets_lost",
    "lost_time_s": "remote_time",
    "freezes_s": "total_freezes_duration",
    "concealed": "concealed_samples",
    "samples": "total_samples_received",
    "buffer_s": "jitter_buffer_delay",
    "buffered": "jitter_buffer_emitted_count",
    "width": "frame_width",
    "height": "frame_height",
    "last_packet_s": "last_packet_time",
}
"""What a reading's numbers are called in the contract, where they are called otherwise."""
_GROWING: Final = ("packets", "payload_bytes", "resent", "frames", "samples")


def client_readings(
    stats: TrackStats, media: Media, source: Source, arrival_s: float, *, cpu_load: float | None = None
) -> list[Reading]:
    """A reading for each stream of statistics that, as far as is known, were taken at ``arrival_s`` (monotonic).

    ``cpu_load``: of the client's machine, 0 to 1, where it is known.
    """
    time_s = seconds_of(stats.measure_time)
    make = _sent if stats.sent else _received
    return [make(stream, media, source, time_s, arrival_s, cpu_load) for stream in stats.streams]


def _sent(
    stream: StreamStats, media: Media, source: Source, time_s: float, arrival_s: float, cpu_load: float | None
) -> Reading:
    """W3C: packetsSent and bytesSent count retransmissions. The receiver report's packetsLost is what repair left."""
    resent, packets, payload_bytes = _resent(stream, media), _number(stream, "packets"), _number(stream, "bytes")
    return Reading(
        source=source,
        ssrc=stream.ssrc,
        time_s=time_s,
        arrival_s=arrival_s,
        rid=stream.rid,
        packets=None if packets is None else packets - (resent or 0),
        resent=resent,
        nacks=_number(stream, "nack_count"),
        payload_bytes=None if payload_bytes is None else payload_bytes - stream.retransmitted_bytes,
        lost=_number(stream, "packets_lost"),
        lost_time_s=_seconds(stream, "remote_time"),
        frames=_number(stream, "frames"),
        jitter_ms=_number(stream, "jitter_ms"),
        rtt_ms=_number(stream, "rtt_ms"),
        width=_number(stream, "frame_width") or None,
        height=_number(stream, "frame_height") or None,
        limitation=TOLD_LIMITATIONS.get(stream.quality_limitation),
        audio_level=_number(stream, "audio_level"),
        cpu_load=cpu_load,
    )


def _received(
    stream: StreamStats, media: Media, source: Source, time_s: float, arrival_s: float, cpu_load: float | None
) -> Reading:
    """packetsReceived and bytesReceived count what was repaired as well, each packet once. packetsLost counts what did
    not come at first, and repair takes nothing back: so it is with Chromium and rtc 1.2.1 behind a lossy line."""
    concealed, silent = _number(stream, "concealed_samples"), _number(stream, "silent_concealed_samples")
    return Reading(
        source=source,
        ssrc=stream.ssrc,
        time_s=time_s,
        arrival_s=arrival_s,
        rid=stream.rid,
        packets=_number(stream, "packets"),
        resent=_resent(stream, media),
        nacks=_number(stream, "nack_count"),
        payload_bytes=_number(stream, "bytes"),
        lost=_number(stream, "packets_lost"),
        lost_before_repair=True,
        frames=_number(stream, "frames"),
        freezes_s=_seconds(stream, "total_freezes_duration"),
        concealed=None if concealed is None or silent is None else concealed - silent,
        samples=_number(stream, "total_samples_received"),
        buffer_s=_seconds(stream, "jitter_buffer_delay"),
        buffered=_number(stream, "jitter_buffer_emitted_count"),
        jitter_ms=_number(stream, "jitter_ms"),
        rtt_ms=_number(stream, "rtt_ms"),
        width=_number(stream, "frame_width") or None,
        height=_number(stream, "frame_height") or None,
        audio_level=_number(stream, "audio_level"),
        last_packet_s=_seconds(stream, "last_packet_time"),
        cpu_load=cpu_load,
    )


def _number(stream: StreamStats, name: Any) -> Any:
    """The field; None where it is absent."""
    return getattr(stream, name) if stream.HasField(name) else None


def _seconds(stream: StreamStats, name: Any) -> float | None:
    return seconds_of(getattr(stream, name)) if stream.HasField(name) else None


def _resent(stream: StreamStats, media: Media) -> int | None:
    """Retransmissions. Chromium tells none before the first one: where nothing was asked for again, or it is sound,
    for which LiveKit asks nothing, there was none."""
    if stream.HasField("retransmitted_packets"):
        return stream.retransmitted_packets
    asked = stream.nack_count if stream.HasField("nack_count") else None
    return 0 if asked == 0 or (asked is None and media is Media.AUDIO) else None


class ClientStats:
    """What one connection of a client has told: the last believed of each stream, and how its clock lies to ours.

    ``identity``: the participant, by LiveKit's word or the caller's token. ``batched``: its first messages may come at
    once, and tell of some seconds: its clock is taken for right until REMEMBERED messages say otherwise.
    """

    def __init__(self, identity: str, source: Source, *, batched: bool = False) -> None:
        self._identity = identity
        self._source = source
        self._batched = batched
        self._last: dict[Flow, dict[int, Reading]] = {}
        self._offsets: deque[float] = deque(maxlen=REMEMBERED)

    def place(self, samples: Iterable[TrackStats], now: Moment) -> None:
        """A message came with those samples.

        Messages that were held up come all at once: the way that took least time places them. Where they are later by
        more than MAX_GAP_S, the client's clock was set back.
        """
        times = [seconds_of(stats.measure_time) for stats in samples]
        newest = max((each for each in times if -PAST_S <= each - now.time_s <= FUTURE_S), default=None)
        if newest is None:
            return
        offset = now.monotonic_s - newest
        if self._batched:
            self._batched = False
            self._offsets.append(now.monotonic_s - now.time_s)
        if self._offsets and offset - min(self._offsets) > MAX_GAP_S:
            self._offsets.clear()
        self._offsets.append(offset)

    def take(
        self, stats: TrackStats, tracks: Mapping[str, Track], now: Moment, *, cpu_load: float | None = None
    ) -> tuple[Flow, list[Reading]]:
        """The readings of one sample, of a message that was placed. ``tracks``: those of the room, by SID.

        Raises TrackNotFound, StatsRefused, with the field of the sample that is at fault.
        """
        media, flow = self._flow(stats, tracks)
        arrival_s = seconds_of(stats.measure_time) + min(self._offsets, default=now.monotonic_s)
        readings = client_readings(stats, media, self._source, min(now.monotonic_s, arrival_s), cpu_load=cpu_load)
        before = self._last.get(flow, {})
        self._in_order(before, readings)
        told: dict[int, Reading] = {}
        for index, reading in enumerate(readings):
            if reading.ssrc in told:
                raise StatsRefused("the SSRC comes twice", field=f"streams[{index}].ssrc")
            told[reading.ssrc] = reading
            refused = refusal(reading, now.time_s, before.get(reading.ssrc))
            if refused is not None:
                field = _FIELDS.get(refused.field, refused.field)
                where = "measure_time" if field == "time" else f"streams[{index}].{field}"
                raise StatsRefused(f"{where} {refused.reason}", field=where)
        if len(self._last) > len(tracks):
            self._last = {each: last for each, last in self._last.items() if each.track_sid in tracks}
        # Also where a counter fell: what goes on from there has begun anew.
        self._last[flow] = told
        for index, reading in enumerate(readings):
            fell = _fell(before.get(reading.ssrc), reading)
            if fell:
                where = f"streams[{index}].{_FIELDS.get(fell, fell)}"
                raise StatsRefused(f"{where} runs backwards", field=where)
        return flow, readings

    def _flow(self, stats: TrackStats, tracks: Mapping[str, Track]) -> tuple[Media, Flow]:
        track = tracks.get(stats.track_sid)
        if track is None:
            raise TrackNotFound(f"no track {stats.track_sid!r} in the room", field="track_sid")
        media = MEDIA.get(track.type)
        if media is None:
            raise StatsRefused("a data track has no RTP streams", field="track_sid")
        own = track.participant_identity == self._identity
        if stats.sent and not own:
            raise StatsRefused("the participant sends its own tracks only", field="sent")
        if own and not stats.sent:
            raise StatsRefused("a participant does not receive its own track", field="sent")
        return media, Flow(track.sid, Hop.UPLINK if stats.sent else Hop.DOWNLINK, self._identity)

    def _in_order(self, before: Mapping[int, Reading], readings: Sequence[Reading]) -> None:
        """Raises StatsRefused for what is not later than the last: unless the client's clock was set back, which
        nothing else explains where all counters go on."""
        last_s = max((last.time_s for last in before.values()), default=-math.inf)
        for reading in readings:
            behind_s = last_s - reading.time_s
            known = before.get(reading.ssrc)
            if behind_s >= 0 and (behind_s <= MAX_GAP_S or known is None or went_back(known, reading)):
                raise StatsRefused("measure_time is not after that of the sample before", field="measure_time")


def _fell(before: Reading | None, after: Reading) -> str:
    """A counter that runs backwards; empty: none does. One that begins anew falls far, and no other goes on beside
    it."""
    if before is None:
        return ""
    moved: dict[str, bool] = {}
    for name in _GROWING:
        first, last = getattr(before, name), getattr(after, name)
        if first is not None and last is not None and first != last:
            if first / 2 < last < first:
                return name
            moved[name] = last > first
    return next((name for name, grew in moved.items() if not grew), "") if any(moved.values()) else ""
