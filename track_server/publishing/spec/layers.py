"""Simulcast layers: those that LiveKit's SDK sends, and whether those that are asked for can be. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from track.v1.publication_pb2 import VideoLayerOptions, VideoOptions
from track.v1.track_pb2 import TrackSource
from track_server.errors import InvalidField, InvalidOptions, NotSupported

BITS_PER_PIXEL: Final = 0.07
"""Default bitrate: Kush-gauge with a factor of 0.07 for low motion, 1.94 Mbit/s for 720p30."""
RAW_BITS_PER_PIXEL: Final = 12
"""Of I420: no encoder sends more than the picture itself."""
SIMULCAST_EDGE: Final = 960
"""From this long edge on, in pixels, LiveKit's SDK sends three layers of a camera."""
_TWO_LAYERS_EDGE: Final = 480
"""From this long edge on it sends two."""
_MIN_LAYER_BITRATE_BPS: Final = 30_000
_MAX_LAYER_BITRATE_BPS: Final = 20_000_000

# What LiveKit's SDK (rtc 1.2.1) sends below the full layer of a camera, by short edge in pixels: bits per second of a
# video nearer to 16:9, of one nearer to 4:3. Seen in the layers that its tracks declare and in what is received.
_LOWER: Final = ((180, 160_000, 100_000), (360, 450_000, 225_000))
_LOWER_FRAMES_PER_SECOND: Final = 20.0
_BETWEEN_THE_RATIOS: Final = (16 / 9 + 4 / 3) / 2
# Below a screen it sends half the size at 3 frames a second.
_SCREEN_FRAMES_PER_SECOND: Final = 3.0
_MIN_SCREEN_BITRATE_BPS: Final = 150_000
_ROUNDING_PIXELS: Final = 2
"""Sizes of the same proportions are rounded to even ones."""


def default_bitrate_bps(width: int, height: int, frames_per_second: float) -> int:
    """Of a picture of that size and rate, unbounded."""
    return round(width * height * frames_per_second * BITS_PER_PIXEL)


def most_usable_bps(width: int, height: int, frames_per_second: float) -> int:
    """Beyond this no encoder goes: the raw picture."""
    return round(width * height * frames_per_second * RAW_BITS_PER_PIXEL)


def sdk_lower_layers(video: VideoOptions, source: "TrackSource.ValueType") -> list[VideoLayerOptions]:
    """The layers below the full one that LiveKit's SDK can send of a video, whose size, rate and bitrate are known.

    Smallest first. Empty for a video that is too small for any.
    """
    long, short = max(video.width, video.height), min(video.width, video.height)
    if long < _TWO_LAYERS_EDGE:
        return []
    if source == TrackSource.TRACK_SOURCE_SCREEN_SHARE:
        slower = max(1, int(video.frames_per_second // _SCREEN_FRAMES_PER_SECOND))
        bitrate = max(_MIN_SCREEN_BITRATE_BPS, video.max_bitrate_bps // (4 * slower))
        return [_layer(video.width / 2, video.height / 2, bitrate, _SCREEN_FRAMES_PER_SECOND, video)]
    wide = long / short > _BETWEEN_THE_RATIOS
    lower = [
        _layer(
            video.width * edge / short,
            video.height * edge / short,
            of_wide if wide else of_square,
            _LOWER_FRAMES_PER_SECOND,
            video,
        )
        for edge, of_wide, of_square in _LOWER
        if edge < short
    ]
    return lower if long >= SIMULCAST_EDGE else lower[1:]


def complete_layers(video: VideoOptions) -> None:
    """Fills in the bitrates and rates of ``video.layers``, and checks them against each other and the full size, rate
    and bitrate, which are known. Raises InvalidOptions, InvalidField.
    """
    layers = video.layers
    if len(layers) < 2:
        raise InvalidOptions("one layer alone is no simulcast: leave layers out", field="spec.video.layers")
    for index, layer in enumerate(layers):
        field = f"spec.video.layers[{index}]"
        if layer.width % 2 or layer.height % 2:
            raise InvalidField(
                "the size of a layer must be even", field=f"{field}.{'width' if layer.width % 2 else 'height'}"
            )
        if not _same_proportions(layer, video):
            raise InvalidOptions("a layer has other proportions than the full size", field=field)
        if layer.frames_per_second > video.frames_per_second:
            raise InvalidOptions(
                "a layer has more frames per second than the track", field=f"{field}.frames_per_second"
            )
        layer.frames_per_second = layer.frames_per_second or video.frames_per_second
    for index, (below, above) in enumerate(pairwise(layers), 1):
        if below.width >= above.width or below.height >= above.height:
            raise InvalidOptions(
                "layers go from the smallest to the largest, each larger than the one before",
                field=f"spec.video.layers[{index}]",
            )
    if (layers[-1].width, layers[-1].height) != (video.width, video.height):
        raise InvalidOptions("the last layer must be the full size", field=f"spec.video.layers[{len(layers) - 1}]")
    _complete_bitrates(layers, video)


def _complete_bitrates(layers: Sequence[VideoLayerOptions], video: VideoOptions) -> None:
    full = layers[-1]
    if full.max_bitrate_bps and full.max_bitrate_bps != video.max_bitrate_bps:
        raise InvalidOptions(
            "no layer can use the track's bitrate: the last layer has another one", field="spec.video.max_bitrate_bps"
        )
    full.max_bitrate_bps = video.max_bitrate_bps
    above = full
    for index, layer in reversed(list(enumerate(layers[:-1]))):
        field = f"spec.video.layers[{index}].max_bitrate_bps"
        size_and_rate = layer.width, layer.height, layer.frames_per_second
        if layer.max_bitrate_bps > max(_MIN_LAYER_BITRATE_BPS, most_usable_bps(*size_and_rate)):
            raise InvalidOptions("no encoder can use so high a bitrate for so small a layer", field=field)
        if layer.max_bitrate_bps > above.max_bitrate_bps:
            raise InvalidOptions("a layer has a higher bitrate than the next larger one", field=field)
        default = max(_MIN_LAYER_BITRATE_BPS, min(default_bitrate_bps(*size_and_rate), _MAX_LAYER_BITRATE_BPS))
        layer.max_bitrate_bps = layer.max_bitrate_bps or min(default, above.max_bitrate_bps)
        above = layer


def refuse_other_layers(
    asked: Sequence[VideoLayerOptions], video: VideoOptions, source: "TrackSource.ValueType"
) -> None:
    """Raises NotSupported where LiveKit's SDK does not send the layers ``asked`` for, which may leave bitrates and
    rates open, and InvalidOptions where they have more than the full size; otherwise fills in what it sends into
    ``video.layers``, which are complete.
    """
    sent = sdk_lower_layers(video, source)
    given = list(asked[:-1])
    if len(given) != len(sent) or not all(map(_is, given, sent)):
        sizes = " and ".join(map(_told, sent))
        can = f"below the full size it is {sizes}" if sent else "a video of this size has no smaller layers"
        raise NotSupported(f"the layers that this service can send are fixed: {can}", field="spec.video.layers")
    refuse_less_than_below(video, sent[-1].max_bitrate_bps if sent else 0)
    for layer, fixed in zip(video.layers, sent, strict=False):
        layer.CopyFrom(fixed)


def refuse_less_than_below(video: VideoOptions, below_bps: int) -> None:
    """Raises InvalidOptions where the full size has less than the layer below it."""
    if video.max_bitrate_bps < below_bps:
        raise InvalidOptions(
            f"the layer below the full size has {below_bps} bit/s, and the full size must not have less",
            field="spec.video.max_bitrate_bps",
        )


def _is(asked: VideoLayerOptions, sent: VideoLayerOptions) -> bool:
    return (
        abs(asked.width - sent.width) <= _ROUNDING_PIXELS
        and abs(asked.height - sent.height) <= _ROUNDING_PIXELS
        and asked.max_bitrate_bps in (0, sent.max_bitrate_bps)
        and asked.frames_per_second in (0, sent.frames_per_second)
    )


def _told(layer: VideoLayerOptions) -> str:
    size, rate = f"{layer.width}x{layer.height}", f"{layer.frames_per_second:g} frames a second"
    return f"{size} with {layer.max_bitrate_bps} bit/s and {rate}"


def _layer(width: float, height: float, bitrate_bps: int, rate: float, video: VideoOptions) -> VideoLayerOptions:
    return VideoLayerOptions(
        width=int(width) // 2 * 2,
        height=int(height) // 2 * 2,
        max_bitrate_bps=bitrate_bps,
        frames_per_second=min(rate, video.frames_per_second),
    )


def _same_proportions(layer: VideoLayerOptions, video: VideoOptions) -> bool:
    return abs(layer.width * video.height - video.width * layer.height) <= _ROUNDING_PIXELS * max(
        video.width, video.height
    )
