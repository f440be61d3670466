"""The terms whose lowest is the layer: what each of them allows of a video. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from track.v1.subscription_pb2 import LayerTerm, LayerTermKind, SubscriptionSettings
from track_server.subscription.layers.video import HIGH, OFF, Layer, Video, message_quality

# LiveKit's server takes a layer for large enough from this part of the asked height on (layerSelectionTolerance in
# pkg/rtc/mediatrackreceiver.go, 1.13.5).
_TOLERANCE: Final = 0.9
"""Of adaptiveStream alone, which asks LiveKit by itself."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the min.

    ``kind``: LayerTermKind. ``quality``: the highest layer that it allows, OFF to HIGH as in video.py; None where it
    limits the frame rate alone, or allows no less than the others do. The rest as in LayerTerm; ``expire_time``:
    seconds since 1970.
    """

    kind: "LayerTermKind.ValueType"
    quality: int | None = None
    width: int | None = None
    height: int | None = None
    frames_per_second: float | None = None
    bitrate_bps: int | None = None
    detail: str = ""
    expire_time: float | None = None

    def message(self) -> LayerTerm:
        """As the contract says it."""
        found = LayerTerm(
            kind=self.kind,
            width=self.width,
            height=self.height,
            frames_per_second=self.frames_per_second,
            bitrate_bps=self.bitrate_bps,
            detail=self.detail,
        )
        if self.quality is not None:
            found.quality = message_quality(self.quality)
        if self.expire_time is not None:
            found.expire_time.FromNanoseconds(round(self.expire_time * 1e9))
        return found


def settings_term(
    kind: "LayerTermKind.ValueType",
    video: Video,
    settings: SubscriptionSettings,
    detail: str = "",
    expire_time: float | None = None,
) -> Term | None:
    """What a rule, a manual choice or the focus says: for POLICY, MANUAL and FOCUS. None where it limits nothing."""
    frames = settings.frames_per_second if settings.HasField("frames_per_second") else None
    if settings.HasField("enabled") and not settings.enabled:
        return Term(kind, OFF, frames_per_second=frames, detail=detail, expire_time=expire_time)
    if settings.HasField("quality"):
        return Term(kind, settings.quality, frames_per_second=frames, detail=detail, expire_time=expire_time)
    if settings.HasField("width"):
        width, height = settings.width, settings.height
        quality = filling(video.layers, width, height)
        return Term(kind, quality, width, height, frames, detail=detail, expire_time=expire_time)
    if frames is not None:
        return Term(kind, frames_per_second=frames, detail=detail, expire_time=expire_time)
    return None


def capability_term(
    video: Video, codecs: Collection[str], max_width: int | None, max_height: int | None
) -> Term | None:
    """What the client can decode.

    ``codecs``: in lower case, empty where that is not known. ``max_width``, ``max_height``: of the largest picture,
    either way up. OFF where it cannot decode the codec, or none of the layers is small enough. None where nothing is
    known.
    """
    kind = LayerTermKind.LAYER_TERM_KIND_CAPABILITY
    if codecs and video.codec and video.codec not in codecs:
        return Term(kind, OFF, detail=f"cannot decode {video.codec}")
    if max_width is None or max_height is None:
        return Term(kind, HIGH) if codecs and video.codec else None
    highest = OFF
    for layer in video.available:
        if _decodes(layer, max_width, max_height):
            highest = max(highest, layer.quality)
    return Term(kind, highest, max_width, max_height)


def viewport_term(video: Video, *, visible: bool, width: int | None, height: int | None) -> Term | None:
    """The smallest layer that fills the size at which it is shown; OFF where it cannot be seen. None where unknown."""
    kind = LayerTermKind.LAYER_TERM_KIND_VIEWPORT
    if not visible:
        return Term(kind, OFF, width, height, detail="not visible")
    if width is None or height is None:
        return None
    if width == 0 or height == 0:
        return Term(kind, OFF, width, height)
    return Term(kind, filling(video.layers, width, height), width, height)


def adaptive_term(video: Video, width: int | None, height: int | None) -> Term | None:
    """What livekit-client asks LiveKit for by itself, as LiveKit takes it. None where adaptiveStream is off."""
    if width is None or height is None:
        return None
    kind = LayerTermKind.LAYER_TERM_KIND_ADAPTIVE_STREAM
    if width == 0 or height == 0:
        return Term(kind, OFF, width, height)
    # LiveKit compares heights alone.
    return Term(kind, filling(video.layers, 0, height * _TOLERANCE), width, height)


def cpu_term(video: Video, layers_down: int, load: float) -> Term:
    """So many layers below the highest, and the lowest at least: sound and a small picture cost next to nothing."""
    layers = video.available or video.layers
    quality = layers[max(0, len(layers) - 1 - layers_down)].quality
    return Term(LayerTermKind.LAYER_TERM_KIND_CPU, quality, detail=f"load {load:.2f}")


def filling(layers: Sequence[Layer], width: float, height: float) -> int:
    """The quality of the smallest layer that is as wide and as high, else of the highest.

    ``layers``: lowest first, one or more. One whose size is not known fills nothing: no guess makes a picture smaller.
    """
    for layer in layers:
        if layer.width and layer.height and layer.width >= width and layer.height >= height:
            return layer.quality
    return layers[-1].quality


def _decodes(layer: Layer, width: int, height: int) -> bool:
    if not layer.width or not layer.height:
        return True
    return max(layer.width, layer.height) <= max(width, height) and min(layer.width, layer.height) <= min(width, height)
