"""The attribute that tells an app without a companion how its tracks are to be received. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from track.v1.subscription_pb2 import LayerTermKind
from track.v1.track_pb2 import VideoQuality
from track_server.subscription.controller.fitting import DEFAULT_PRIORITY, Fit, Told
from track_server.subscription.layers.decision import layer_at
from track_server.subscription.layers.video import message_quality

ATTRIBUTE: Final = "track.layers"
"""Its name, of the subscriber's own participant."""
MAX_BYTES: Final = 16 << 10
"""Of its text: LiveKit takes 64 KiB for all attributes, which are not ours alone."""
_ALL_BYTES: Final = 63 << 10


@dataclass(frozen=True, slots=True)
class Advised:
    """How one track is to be received, and why. ``limiting``: UNSPECIFIED for sound."""

    told: Told
    priority: int = DEFAULT_PRIORITY
    width: int | None = None
    height: int | None = None
    limiting: "LayerTermKind.ValueType" = LayerTermKind.LAYER_TERM_KIND_UNSPECIFIED

    @classmethod
    def of(cls, told: Told, fit: Fit | None) -> "Advised":
        """With what is decided of a video; None for sound."""
        if fit is None:
            return cls(told, told.priority or DEFAULT_PRIORITY)
        layer = layer_at(fit.ceiling, fit.level)
        if layer is None or not layer.width or not layer.height:
            return cls(told, fit.priority, limiting=fit.limiting)
        return cls(told, fit.priority, layer.width, layer.height, fit.limiting)

    def entry(self) -> dict[str, Any]:
        """As it stands in the attribute."""
        found: dict[str, Any] = {"enabled": self.told.enabled is not False}
        if self.told.quality is not None:
            quality = VideoQuality.Name(message_quality(self.told.quality)).removeprefix("VIDEO_QUALITY_")
            found["quality"] = quality
            if self.width is not None:
                found |= {"width": self.width, "height": self.height}
        if self.told.frames_per_second is not None:
            found["frames_per_second"] = self.told.frames_per_second
        found["priority"] = self.priority
        if self.limiting:
            found["limiting_term"] = LayerTermKind.Name(self.limiting).removeprefix("LAYER_TERM_KIND_")
        return found


def text_of(advised: Mapping[str, Advised], attributes: Mapping[str, str]) -> str:
    """The attribute's text: a JSON object by track SID. Empty: there is nothing to tell.

    ``attributes``: all of the participant. Where not all fits beside them, the tracks of the highest priority are told,
    and `"truncated": true`.
    """
    if not advised:
        return ""
    others = sum(len(name.encode()) + len(value.encode()) for name, value in attributes.items() if name != ATTRIBUTE)
    room = min(MAX_BYTES, _ALL_BYTES - others - len(ATTRIBUTE)) - len('{"truncated":true}')
    told: dict[str, Any] = {}
    truncated = False
    for sid in sorted(advised, key=lambda sid: (-advised[sid].priority, sid)):
        entry = advised[sid].entry()
        room -= len(sid) + len(orjson.dumps(entry)) + len('"":,')
        if room < 0:
            truncated = True
            break
        told[sid] = entry
    told = dict(sorted(told.items()))
    if truncated:
        told["truncated"] = True
    return orjson.dumps(told).decode()
