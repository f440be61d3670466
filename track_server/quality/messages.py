"""What was measured, as the contract's messages. Pure. What was not measured is absent."""

from collections.abc import Iterable
from typing import Final

from google.protobuf import duration_pb2, timestamp_pb2

from track.v1 import quality_pb2
from track.v1.event_pb2 import ParticipantQuality
from track.v1.quality_alert_pb2 import QUALITY_HOP_DOWNLINK, QUALITY_HOP_UPLINK
from track.v1.quality_pb2 import (
    CONNECTION_QUALITY_UNSPECIFIED,
    QUALITY_SOURCE_SFU_SCORE,
    LayerSample,
    QualityMeasurement,
    QualityNumber,
    QualitySample,
)
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO
from track_server.durations import duration_of, timestamp_at
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.meter import Told
from track_server.quality.core.measuring.reading import Flow, Hop, Limitation, Media, Source
from track_server.quality.core.measuring.sample import Number, Sample, Share
from track_server.quality.core.scoring.level import Level

MEDIA: Final = {TRACK_TYPE_AUDIO: Media.AUDIO, TRACK_TYPE_VIDEO: Media.VIDEO}
"""Of the tracks that have RTP streams."""

HOPS: Final = {Hop.UPLINK: QUALITY_HOP_UPLINK, Hop.DOWNLINK: QUALITY_HOP_DOWNLINK}

SOURCES: Final = {
    Source.PUBLISHER_STATS: quality_pb2.QUALITY_SOURCE_PUBLISHER_STATS,
    Source.SFU_SCORE: quality_pb2.QUALITY_SOURCE_SFU_SCORE,
    Source.SUBSCRIBER_STATS: quality_pb2.QUALITY_SOURCE_SUBSCRIBER_STATS,
    Source.COMPANION: quality_pb2.QUALITY_SOURCE_COMPANION,
    Source.REPORTED: quality_pb2.QUALITY_SOURCE_REPORTED,
    Source.DEBUG_VIEW: quality_pb2.QUALITY_SOURCE_DEBUG_VIEW,
}

LEVELS: Final = {
    Level.EXCELLENT: quality_pb2.QUALITY_LEVEL_EXCELLENT,
    Level.GOOD: quality_pb2.QUALITY_LEVEL_GOOD,
    Level.POOR: quality_pb2.QUALITY_LEVEL_POOR,
    Level.LOST: quality_pb2.QUALITY_LEVEL_LOST,
}

LIMITATIONS: Final = {
    Limitation.NONE: quality_pb2.QUALITY_LIMITATION_NONE,
    Limitation.CPU: quality_pb2.QUALITY_LIMITATION_CPU,
    Limitation.BANDWIDTH: quality_pb2.QUALITY_LIMITATION_BANDWIDTH,
    Limitation.OTHER: quality_pb2.QUALITY_LIMITATION_OTHER,
}

_NUMBERS: Final = (
    "jitter_ms",
    "rtt_ms",
    "bitrate_bps",
    "frames_per_second",
    "buffer_ms",
    "stalled_s",
    "stuck_s",
    "sfu_score",
    "audio_level",
    "brightness",
)
_NUMBERS_SENT: Final = (*_NUMBERS, "width", "height")
_SHARES: Final = (
    ("loss_before_repair", "loss_before"),
    ("loss_after_repair", "loss_after"),
    ("frozen", "frozen"),
    ("concealed", "concealed"),
)


def measurement_of(flow: Flow, sample: Sample, layers: Iterable[Sample] = ()) -> QualityMeasurement:
    """A sample of a whole track on one hop, and of its layers. Level and scores are left to who knows them."""
    message = _measurement(flow, sample)
    message.layers.extend(_layer_measurement(flow, layer) for layer in layers)
    return message


def _layer_measurement(flow: Flow, sample: Sample) -> QualityMeasurement:
    message = _measurement(flow, sample)
    message.rid = sample.rid
    if sample.ssrc is not None:
        message.ssrc = sample.ssrc
    return message


def _measurement(flow: Flow, sample: Sample) -> QualityMeasurement:
    message = QualityMeasurement(hop=HOPS[flow.hop], participant_identity=flow.identity)
    if sample.window_s is not None:
        message.window.CopyFrom(duration_of(sample.window_s))
    for field, name in _SHARES:
        share: Share | None = getattr(sample, name)
        if share is not None:
            place = getattr(message, field)
            place.part, place.whole, place.percent = share.part, share.whole, share.percent
            place.source = SOURCES[share.source]
            _set_seconds(place.age, share.age_s)
    # A picture that is not sent has no size.
    for name in _NUMBERS if sample.sends is False else _NUMBERS_SENT:
        number: Number | None = getattr(sample, name)
        if number is not None:
            _set_number(getattr(message, name), number)
    if sample.freezing_s is not None and sample.freezing_s.value > 0:
        _set_number(message.freezing_s, sample.freezing_s)
    if sample.limitation is not None:
        message.limitation = LIMITATIONS[sample.limitation]
    return message


def set_score(message: QualityMeasurement, media: Media, score: float | None, level: Level | None) -> None:
    """Sets the score of a whole track, and its level."""
    if score is not None:
        if media is Media.AUDIO:
            message.audio_mos = score
        else:
            message.video_index = score
    if level is not None:
        message.level = LEVELS[level]


def source_sample(told: Told, media: Media) -> QualitySample:
    """What one source told of an uplink."""
    total = told.total
    sample = QualitySample(
        source=SOURCES[told.source],
        measure_time=timestamp_at(told.time_s),
        age=duration_of(told.age_s),
    )
    if total.window_s is not None:
        sample.window.CopyFrom(duration_of(total.window_s))
    _set_numbers(sample, total, media)
    if media is Media.VIDEO and told.source is Source.PUBLISHER_STATS and total.window_s is not None:
        sample.layers.extend(_layer(layer) for layer in told.layers if layer.sends is not False)
    return sample


def sfu_sample(quality: ParticipantQuality, now: Moment) -> QualitySample | None:
    """LiveKit's level and score of a publisher; None where it told neither."""
    if quality.connection_quality == CONNECTION_QUALITY_UNSPECIFIED and not quality.HasField("score"):
        return None
    sample = QualitySample(
        source=QUALITY_SOURCE_SFU_SCORE,
        measure_time=quality.measure_time,
        connection_quality=quality.connection_quality,
    )
    if quality.HasField("score"):
        sample.score = quality.score
    age_ns = round(now.time_s * 1e9) - quality.measure_time.ToNanoseconds()
    sample.age.FromNanoseconds(max(0, age_ns))
    return sample


def stamp_of(now: Moment) -> timestamp_pb2.Timestamp:
    """That moment's time of day."""
    return timestamp_at(now.time_s)


def _layer(sample: Sample) -> LayerSample:
    layer = LayerSample(rid=sample.rid)
    _set_numbers(layer, sample, Media.VIDEO)
    if sample.resent_per_second is not None:
        layer.retransmitted_packets_per_second = sample.resent_per_second
    if sample.limitation is not None:
        layer.quality_limitation = LIMITATIONS[sample.limitation]
    return layer


def _set_numbers(message: QualitySample | LayerSample, sample: Sample, media: Media) -> None:
    if sample.loss_after is not None:
        message.loss_percent = sample.loss_after.percent
    if sample.jitter_ms is not None:
        message.jitter_ms = sample.jitter_ms.value
    if sample.rtt_ms is not None:
        message.rtt_ms = sample.rtt_ms.value
    if sample.bitrate_bps is not None:
        message.bitrate_bps = sample.bitrate_bps.value
    if media is not Media.VIDEO:
        return
    if sample.frames_per_second is not None:
        message.frames_per_second = sample.frames_per_second.value
    if sample.sends is not False and sample.width is not None and sample.height is not None:
        message.width = int(sample.width.value)
        message.height = int(sample.height.value)


def _set_number(place: QualityNumber, number: Number) -> None:
    place.value, place.source = number.value, SOURCES[number.source]
    _set_seconds(place.age, number.age_s)


def _set_seconds(span: duration_pb2.Duration, seconds: float) -> None:
    whole = int(seconds)
    span.seconds = whole
    span.nanos = int((seconds - whole) * 1e9)
