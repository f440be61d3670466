"""Bounds within which something may be published, from a permission service's obligations or an operation token."""

from dataclasses import dataclass, fields
from typing import Any, Final

from track.v1.publication_pb2 import VideoCodec
from track.v1.token_pb2 import PublishBounds
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.errors import PermissionDenied


@dataclass(frozen=True, slots=True)
class Description:
    """What is to be published, or what a track is. 0 and unspecified: not known yet."""

    type: "TrackType.ValueType" = TrackType.TRACK_TYPE_UNSPECIFIED
    source: "TrackSource.ValueType" = TrackSource.TRACK_SOURCE_UNSPECIFIED
    codec: "VideoCodec.ValueType" = VideoCodec.VIDEO_CODEC_UNSPECIFIED
    width: int = 0
    """Pixels."""
    height: int = 0
    """Pixels."""
    frames_per_second: float = 0
    max_bitrate_bps: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper bounds and closed lists; None: not bounded."""

    max_bitrate_bps: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    max_frames_per_second: float | None = None
    sources: frozenset["TrackSource.ValueType"] | None = None
    codecs: frozenset["VideoCodec.ValueType"] | None = None
    max_tracks: int | None = None

    @classmethod
    def of(cls, message: PublishBounds) -> "Bounds":
        """From the contract's message, in which 0 and empty mean not bounded."""
        return cls(
            max_bitrate_bps=message.max_bitrate_bps or None,
            max_width=message.max_width or None,
            max_height=message.max_height or None,
            max_frames_per_second=message.max_frames_per_second or None,
            sources=frozenset(message.sources) or None,
            codecs=frozenset(message.codecs) or None,
            max_tracks=message.max_tracks or None,
        )

    def message(self) -> PublishBounds:
        """As the contract's message."""
        return PublishBounds(
            max_bitrate_bps=self.max_bitrate_bps or 0,
            max_width=self.max_width or 0,
            max_height=self.max_height or 0,
            max_frames_per_second=self.max_frames_per_second or 0,
            sources=sorted(self.sources or ()),
            codecs=sorted(self.codecs or ()),
            max_tracks=self.max_tracks or 0,
        )

    def within(self, other: "Bounds") -> "Bounds":
        """What both allow."""
        return Bounds(*(_narrower(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)))

    def refuse_beyond(self, described: Description, field: str = "") -> None:
        """Raises PermissionDenied for the first thing that is known and beyond. ``field``: name of the spec's field."""
        for name, bound, value, place in (
            ("max_bitrate_bps", self.max_bitrate_bps, described.max_bitrate_bps, _bitrate_field(described)),
            ("max_width", self.max_width, described.width, "video.width"),
            ("max_height", self.max_height, described.height, "video.height"),
            ("max_frames_per_second", self.max_frames_per_second, described.frames_per_second, _RATE),
        ):
            if bound is not None and value > bound:
                raise _beyond(name, f"at most {bound:g}", f"{field}.{place}" if field else place)
        if self.codecs is not None and described.codec and described.codec not in self.codecs:
            names = ", ".join(VideoCodec.Name(codec) for codec in sorted(self.codecs))
            raise _beyond("codecs", names, f"{field}.video.codec" if field else "video.codec")
        if self.sources is not None and described.source and described.source not in self.sources:
            names = ", ".join(TrackSource.Name(source) for source in sorted(self.sources))
            raise _beyond("sources", names, f"{field}.source" if field else "source")


UNBOUNDED: Final = Bounds()
_RATE: Final = "video.frames_per_second"


def _narrower(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a & b if isinstance(a, frozenset) else min(a, b)


def _bitrate_field(described: Description) -> str:
    if described.type == TrackType.TRACK_TYPE_DATA:
        return "data"  # of frames, it is their size times their rate
    return f"{'audio' if described.type == TrackType.TRACK_TYPE_AUDIO else 'video'}.max_bitrate_bps"


def _beyond(name: str, bound: str, field: str) -> PermissionDenied:
    return PermissionDenied(
        f"the caller may publish here with {name}: {bound}", field=field, metadata={"bound": name, "value": bound}
    )
