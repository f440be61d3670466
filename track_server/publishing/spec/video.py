"""Video options: completed, and held against codec and input. Pure."""

import math
from typing import Final

from track.v1.publication_pb2 import DeviceKind, PublicationSpec, VideoCodec, VideoLayerOptions, VideoOptions
from track_server.access.bounds import Bounds
from track_server.errors import InvalidField, InvalidOptions
from track_server.publishing.spec import scalability
from track_server.publishing.spec.kinds import VIDEO, Stream, first
from track_server.publishing.spec.layers import (
    SIMULCAST_EDGE,
    complete_layers,
    default_bitrate_bps,
    most_usable_bps,
    refuse_less_than_below,
    refuse_other_layers,
    sdk_lower_layers,
)
from track_server.publishing.spec.scalability import SCALABLE, check_mode

DEFAULT_SIZE: Final = (1280, 720)
DEFAULT_SCREEN_SIZE: Final = (1920, 1080)
MAX_SIZE: Final = (3840, 2160)
DEFAULT_FRAMES_PER_SECOND: Final = 30.0
DEFAULT_SCREEN_FRAMES_PER_SECOND: Final = 15.0
MIN_BITRATE_BPS: Final = 50_000
MAX_BITRATE_BPS: Final = 20_000_000

# In the order in which one is chosen where the caller leaves it open.
_CODECS: Final = (
    VideoCodec.VIDEO_CODEC_VP8,
    VideoCodec.VIDEO_CODEC_H264,
    VideoCodec.VIDEO_CODEC_VP9,
    VideoCodec.VIDEO_CODEC_AV1,
)
_PASSED_THROUGH: Final = (VideoCodec.VIDEO_CODEC_VP8, VideoCodec.VIDEO_CODEC_H264)


def complete_video(spec: PublicationSpec, stream: Stream | None, bounds: Bounds, max_pixels: int) -> None:
    """Fills in the defaults of ``spec.video``; ``spec.source`` is known.

    Raises InvalidOptions, InvalidField, NotSupported.
    """
    video = spec.video
    if bool(video.width) != bool(video.height):
        raise InvalidOptions(
            "width and height go together", field="spec.video.height" if video.width else "spec.video.width"
        )
    if spec.HasField("push") and not video.width:
        raise InvalidField("the size of pushed pictures must be given", field="spec.video.width")
    encoded = spec.push.HasField("encoded_video")
    if encoded:
        _refuse_encoding(video)
    video.codec = video.codec or first(_PASSED_THROUGH if encoded else _CODECS, bounds.codecs)
    _complete_size_and_rate(video, stream or _likely(spec), bounds, max_pixels)
    hosted = not spec.HasField("device") and not spec.HasField("ingress")
    check_mode(video, hosted=hosted)
    asked = [VideoLayerOptions.FromString(layer.SerializeToString()) for layer in video.layers]
    below_bps = sent_below_bps(spec)
    _complete_bitrate(video, bounds, below_bps)
    _complete_simulcast(video, below_bps)
    if asked:
        complete_layers(video)
        if hosted:
            refuse_other_layers(asked, video, spec.source)


def sent_below_bps(spec: PublicationSpec) -> int:
    """What LiveKit's SDK sends of the layer below the full size, in bits per second, where it may send layers.

    0: there is none, or others than this service send it. Size, rate and codec are known.
    """
    video = spec.video
    hosted = not spec.HasField("device") and not spec.HasField("ingress")
    if not hosted or not (video.layers or _may_be_simulcast(video)):
        return 0
    below = sdk_lower_layers(video, spec.source)
    return below[-1].max_bitrate_bps if below else 0


def _likely(spec: PublicationSpec) -> Stream:
    """What is asked of a source whose size nobody has looked at."""
    if spec.device.kind == DeviceKind.DEVICE_KIND_SCREEN:
        return Stream(VIDEO, *DEFAULT_SCREEN_SIZE, frames_per_second=DEFAULT_SCREEN_FRAMES_PER_SECOND)
    return Stream(VIDEO)


def _refuse_encoding(video: VideoOptions) -> None:
    """Pictures that are encoded already are passed through."""
    if video.codec and video.codec not in _PASSED_THROUGH:
        raise InvalidOptions("encoded pictures are passed through as VP8 or H264", field="spec.video.codec")
    for name in ("simulcast", "layers", "scalability_mode", "degradation_preference"):
        if getattr(video, name):
            raise InvalidOptions(
                "encoded pictures are passed through as they are, in one layer", field=f"spec.video.{name}"
            )
    video.simulcast = False


def _complete_size_and_rate(video: VideoOptions, stream: Stream, bounds: Bounds, max_pixels: int) -> None:
    if not video.width and video.layers:
        video.width, video.height = video.layers[-1].width, video.layers[-1].height
    if not video.width:
        video.width, video.height = _default_size(stream, bounds, max_pixels)
    if not video.frames_per_second:
        most = min(60.0, bounds.max_frames_per_second or 60.0)
        video.frames_per_second = min(max(stream.frames_per_second or DEFAULT_FRAMES_PER_SECOND, 1.0), most)


def _complete_bitrate(video: VideoOptions, bounds: Bounds, below_bps: int) -> None:
    """``below_bps``: what the layer below the full size has, which is not to have more."""
    size_and_rate = video.width, video.height, video.frames_per_second
    video.max_bitrate_bps = video.max_bitrate_bps or (video.layers[-1].max_bitrate_bps if video.layers else 0)
    if video.max_bitrate_bps > max(MIN_BITRATE_BPS, most_usable_bps(*size_and_rate)):
        raise InvalidOptions(
            "no encoder can use so high a bitrate for so small a video", field="spec.video.max_bitrate_bps"
        )
    unscaled = default_bitrate_bps(*size_and_rate)
    default = min(max(scalability.default_bitrate_bps(video, unscaled), MIN_BITRATE_BPS, below_bps), MAX_BITRATE_BPS)
    video.max_bitrate_bps = video.max_bitrate_bps or min(default, bounds.max_bitrate_bps or default)


def _may_be_simulcast(video: VideoOptions) -> bool:
    """Whether it is sent so where it is not refused and its bitrate is enough."""
    large = max(video.width, video.height) >= SIMULCAST_EDGE
    return large and video.codec not in SCALABLE and (video.simulcast or not video.HasField("simulcast"))


def _complete_simulcast(video: VideoOptions, below_bps: int) -> None:
    """``below_bps``: see _complete_bitrate."""
    codec = SCALABLE.get(video.codec)
    if codec is not None and (video.simulcast or video.layers):
        raise InvalidOptions(
            f"{codec} is not sent as simulcast but as one stream with scalable layers",
            field="spec.video.simulcast" if video.simulcast else "spec.video.layers",
        )
    if video.layers and video.HasField("simulcast") and not video.simulcast:
        raise InvalidOptions("layers are simulcast, which is refused", field="spec.video.layers")
    if not video.HasField("simulcast"):
        # LiveKit's SDK would send the lower layers all the same, and more of each of them than of the full size.
        video.simulcast = bool(video.layers) or (_may_be_simulcast(video) and video.max_bitrate_bps >= below_bps)
    elif video.simulcast and not video.layers:
        refuse_less_than_below(video, below_bps)


def _default_size(stream: Stream, bounds: Bounds, max_pixels: int) -> tuple[int, int]:
    """The input's size, scaled down in its proportions to what is allowed."""
    width, height = stream.width or DEFAULT_SIZE[0], stream.height or DEFAULT_SIZE[1]
    widest, highest = min(MAX_SIZE[0], bounds.max_width or width), min(MAX_SIZE[1], bounds.max_height or height)
    scale = min(1.0, widest / width, highest / height, math.sqrt(max_pixels / (width * height)))
    # A little for the rounding of what is exact.
    return _even(int(width * scale + 1e-6), widest), _even(int(height * scale + 1e-6), highest)


def _even(value: int, most: int) -> int:
    return max(16, min(value, most) // 2 * 2)
