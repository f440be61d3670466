"""From the RTP streams of a track to its numbers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from track.media.v1.media_service_pb2 import DataTrackStats, RtpStreamStats
from track.v1.quality_pb2 import LayerSample, QualitySample
from track_server.quality.receiver import Loss
from track_server.quality.rtp import difference, payload, rate, reading


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """One RTP stream over a window.

    ``before``: its counters when the window began; None where there is no window yet. ``seconds``: length of the
    window. ``sends``: whether it sends media; true where nobody can say yet. ``loss``: over about the window.
    ``report_age_s``: age of the last receiver report; None where there is none lately.
    """

    after: RtpStreamStats
    before: RtpStreamStats | None
    seconds: float
    sends: bool
    loss: Loss | None
    report_age_s: float | None


def layer_of(window: StreamWindow) -> LayerSample:
    """The numbers of one stream."""
    after, before, seconds = window.after, window.before, window.seconds
    layer = LayerSample(rid=after.rid, quality_limitation=after.quality_limitation)
    if after.frame_width and after.frame_height:
        layer.width = after.frame_width
        layer.height = after.frame_height
    if before is not None:
        bytes_s = rate(payload(before, after), seconds)
        if bytes_s is not None:
            layer.bitrate_bps = bytes_s * 8
        if (frames_s := rate(difference(before, after, "frames_sent"), seconds)) is not None:
            layer.frames_per_second = frames_s
        if (resent_s := rate(difference(before, after, "retransmitted_packets_sent"), seconds)) is not None:
            layer.retransmitted_packets_per_second = resent_s
    if window.loss is not None:
        layer.loss_percent = percent([window.loss])
    if window.report_age_s is not None:
        if (jitter_ms := reading(after, "jitter_ms")) is not None:
            layer.jitter_ms = jitter_ms
        if (rtt_ms := reading(after, "rtt_ms")) is not None:
            layer.rtt_ms = rtt_ms
    return layer


def set_streams(sample: QualitySample, windows: Sequence[StreamWindow], *, video: bool) -> None:
    """Sets the numbers of a track from all its streams."""
    layers = [layer_of(window) for window in windows]
    sending = [layer for window, layer in zip(windows, layers, strict=True) if window.sends]
    losses = [window.loss for window in windows if window.loss is not None]
    if losses:
        sample.loss_percent = percent(losses)
    jitters = [layer.jitter_ms for layer in sending if layer.HasField("jitter_ms")]
    if jitters:
        sample.jitter_ms = max(jitters)
    trips = [
        (window.report_age_s, layer.rtt_ms)
        for window, layer in zip(windows, layers, strict=True)
        if window.report_age_s is not None and layer.HasField("rtt_ms")
    ]
    if trips:
        sample.rtt_ms = min(trips)[1]
    if all(layer.HasField("bitrate_bps") for layer in layers):
        sample.bitrate_bps = sum(layer.bitrate_bps for layer in layers)
    if video and windows[0].before is not None:
        _set_video(sample, layers, sending)


def _set_video(sample: QualitySample, layers: Sequence[LayerSample], sending: list[LayerSample]) -> None:
    sending.sort(key=lambda layer: (layer.width * layer.height, layer.bitrate_bps, layer.rid))
    sample.layers.extend(sending)
    if sending:
        largest = sending[-1]
        if largest.HasField("width"):
            sample.width = largest.width
            sample.height = largest.height
        if largest.HasField("frames_per_second"):
            sample.frames_per_second = largest.frames_per_second
    elif all(layer.HasField("frames_per_second") for layer in layers):
        sample.frames_per_second = max(layer.frames_per_second for layer in layers)


def set_data(sample: QualitySample, before: DataTrackStats, after: DataTrackStats, seconds: float) -> None:
    """Sets the numbers of a data track."""
    frames_s = rate(after.frames_pushed - before.frames_pushed, seconds)
    bytes_s = rate(after.bytes_pushed - before.bytes_pushed, seconds)
    if frames_s is not None and bytes_s is not None:
        sample.frames_per_second = frames_s
        sample.bitrate_bps = bytes_s * 8


def percent(losses: Sequence[Loss]) -> float:
    """Packets lost of those expected, 0 to 100, over all of ``losses`` (one or more)."""
    lost = sum(loss.lost for loss in losses)
    expected = sum(loss.expected for loss in losses)
    return min(100.0, 100.0 * lost / expected)
