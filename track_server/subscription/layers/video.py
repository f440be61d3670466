"""A video and the simulcast layers that its publisher has, as plain numbers. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from track.v1.track_pb2 import Track, VideoQuality
from track_server.subscription.layers.cost import estimate_bps

# Qualities in the order of what they carry, which the contract's numbers are not in: there OFF is the highest.
OFF: Final = 0
LOW: Final = 1
MEDIUM: Final = 2
HIGH: Final = 3

# livekit-client's layers where an app says nothing (VideoPresets h180, h360, h720): for layers without a declared size.
_USUAL_SIZES: Final = {LOW: (320, 180), MEDIUM: (640, 360), HIGH: (1280, 720)}


@dataclass(frozen=True, slots=True)
class Layer:
    """One simulcast layer as it is declared. ``quality``: LOW to HIGH. Width and height in pixels, bits per second."""

    quality: int
    width: int | None = None
    height: int | None = None
    bitrate_bps: int | None = None

    def cost_bps(self, frames_per_second: float | None = None) -> int:
        """What it costs of a budget: the declared bitrate, else an estimate by its size at that rate at most."""
        if self.bitrate_bps:
            return self.bitrate_bps
        width, height = self.width, self.height
        if not width or not height:
            width, height = _USUAL_SIZES[self.quality]
        return estimate_bps(width, height, frames_per_second)


@dataclass(frozen=True, slots=True)
class Video:
    """A video track.

    ``layers``: what is declared, lowest first, each quality once, at least one. ``sent``: the qualities that can be
    had; None where that is not known. With dynacast a publisher stops what nobody wants: that can be had all the same.
    ``codec``: the MIME subtype in lower case, "" where it is not known. ``muted``: it costs nothing meanwhile.
    """

    sid: str
    layers: tuple[Layer, ...]
    sent: frozenset[int] | None = None
    codec: str = ""
    muted: bool = False

    @property
    def available(self) -> tuple[Layer, ...]:
        """The layers to be had, lowest first."""
        if self.sent is None:
            return self.layers
        return tuple(layer for layer in self.layers if layer.quality in self.sent)

    def spatial_layer(self, quality: int) -> int | None:
        """LiveKit's number of that layer, 0 the lowest declared; None where it is not declared, and for OFF."""
        for index, layer in enumerate(self.layers):
            if layer.quality == quality:
                return index
        return None


def video_of(track: Track, sent: Collection[int] | None = None) -> Video:
    """The video of a track of a room.

    ``sent``: as in Video. Where no layers are declared it has one, as LiveKit takes it: HIGH, of the track's size.
    """
    layers = {
        layer.quality: Layer(
            layer.quality,
            layer.width or None,
            layer.height or None,
            layer.bitrate_bps if layer.HasField("bitrate_bps") else None,
        )
        for layer in track.layers
        if VideoQuality.VIDEO_QUALITY_LOW <= layer.quality <= VideoQuality.VIDEO_QUALITY_HIGH
    }
    declared = tuple(layers[quality] for quality in sorted(layers))
    return Video(
        track.sid,
        declared or (Layer(HIGH, track.width or None, track.height or None),),
        None if sent is None else frozenset(sent),
        track.mime_type.partition("/")[2].lower(),
        track.muted,
    )


def message_quality(quality: int) -> "VideoQuality.ValueType":
    """The contract's word for OFF, LOW, MEDIUM or HIGH as they are numbered here."""
    return _QUALITIES[quality]


_QUALITIES: Final = {
    OFF: VideoQuality.VIDEO_QUALITY_OFF,
    LOW: VideoQuality.VIDEO_QUALITY_LOW,
    MEDIUM: VideoQuality.VIDEO_QUALITY_MEDIUM,
    HIGH: VideoQuality.VIDEO_QUALITY_HIGH,
}
