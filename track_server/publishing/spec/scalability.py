"""Scalability modes: which there are, which LiveKit's SDK sends, and what bitrate they need. Pure."""

import math
from typing import Final

from track.v1.publication_pb2 import VideoCodec, VideoOptions
from track_server.errors import InvalidField, InvalidOptions, NotSupported

SCALABLE: Final = {VideoCodec.VIDEO_CODEC_VP9: "VP9", VideoCodec.VIDEO_CODEC_AV1: "AV1"}
"""These codecs are sent as one stream, with scalable layers or without, and never as simulcast."""

# W3C webrtc-svc, "Scalability modes".
_MODES: Final = frozenset(
    [f"L1T{temporal}" for temporal in (1, 2, 3)]
    + [
        f"{kind}{spatial}T{temporal}{suffix}"
        for spatial in (2, 3)
        for temporal in (1, 2, 3)
        for kind, suffixes in (("L", ("", "h", "_KEY")), ("S", ("", "h")))
        for suffix in suffixes
    ]
    + [f"L{spatial}T{temporal}_KEY_SHIFT" for spatial in (2, 3) for temporal in (2, 3)]
)
# LiveKit's SDK (rtc 1.2.1) knows one KEY_SHIFT mode; of S modes its subscribers receive nothing.
_NOT_HOSTED: Final = frozenset(
    mode for mode in _MODES if mode.startswith("S") or (mode.endswith("_KEY_SHIFT") and mode != "L2T2_KEY_SHIFT")
)
_FIELD: Final = "spec.video.scalability_mode"
_NEXT_SHARE: Final = 0.55
_MIN_LAYER_BPS: Final = 30_000
_MARGIN: Final = 1.25
"""Over the least bitrate: an estimate of bandwidth goes up and down."""


def check_mode(video: VideoOptions, *, hosted: bool) -> None:
    """Raises InvalidOptions, InvalidField, NotSupported where the mode, if there is one, cannot be."""
    if not video.scalability_mode:
        return
    if video.codec not in SCALABLE:
        raise InvalidOptions("scalability modes are for VP9 and AV1", field=_FIELD)
    if video.scalability_mode not in _MODES:
        raise InvalidField("there is no such scalability mode", field=_FIELD)
    if hosted and video.scalability_mode in _NOT_HOSTED:
        raise NotSupported(
            "LiveKit's SDK does not send this scalability mode, but L1T1 to L3T3, h and KEY", field=_FIELD
        )
    if video.max_bitrate_bps and video.max_bitrate_bps < least_bitrate_bps(video):
        raise InvalidOptions(
            f"with this scalability mode the full size needs {least_bitrate_bps(video)} bit/s at least",
            field="spec.video.max_bitrate_bps",
        )


def least_bitrate_bps(video: VideoOptions) -> int:
    """Below it, in bits per second, the largest of several spatial layers is not sent. 0 where there is one.

    libwebrtc gives each layer 0.55 times what the next larger one has (svc_rate_allocator.cc), and sends none that has
    less than it needs for its size (svc_config.cc). Seen: 960x540 in three layers is sent with 800,000, not with
    610,000.
    """
    pixels = _pixels(video)
    shares = [_NEXT_SHARE**above for above in range(len(pixels))]
    needed = [max(_MIN_LAYER_BPS, 600 * math.sqrt(size) - 95_000) for size in pixels]
    return round(max((least * sum(shares) / share for least, share in zip(needed, shares, strict=True)), default=0.0))


def default_bitrate_bps(video: VideoOptions, unscaled_bps: int) -> int:
    """For all layers together, bits per second, where ``unscaled_bps`` is enough for the full size alone."""
    share = sum(_pixels(video)) / (video.width * video.height) or 1.0
    return max(round(unscaled_bps * share), round(least_bitrate_bps(video) * _MARGIN))


def _pixels(video: VideoOptions) -> list[float]:
    """Of each spatial layer, the largest first, where there are several."""
    spatial = int(video.scalability_mode[1]) if video.scalability_mode in _MODES else 1
    if spatial == 1:
        return []
    ratio = 1.5 if video.scalability_mode.endswith("h") else 2.0
    return [video.width * video.height / ratio ** (2 * below) for below in range(spatial)]
