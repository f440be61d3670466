"""What a spec's input carries, and the source that it is said to show. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from track.v1 import track_pb2
from track.v1.publication_pb2 import (
    DATA_DELIVERY_LOSSY_MESSAGES,
    DATA_DELIVERY_RELIABLE_MESSAGES,
    DeviceKind,
    PublicationSpec,
)
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.errors import InvalidOptions

AUDIO: Final = TrackType.TRACK_TYPE_AUDIO
VIDEO: Final = TrackType.TRACK_TYPE_VIDEO
DATA: Final = TrackType.TRACK_TYPE_DATA

SOURCES: Final[Mapping[int, Sequence["TrackSource.ValueType"]]] = {
    AUDIO: (track_pb2.TRACK_SOURCE_MICROPHONE, track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO),
    VIDEO: (track_pb2.TRACK_SOURCE_CAMERA, track_pb2.TRACK_SOURCE_SCREEN_SHARE),
}
"""The sources of each type; the first is the default."""
_DEVICES: Final[Mapping[int, tuple["TrackType.ValueType", "TrackSource.ValueType"]]] = {
    DeviceKind.DEVICE_KIND_CAMERA: (VIDEO, track_pb2.TRACK_SOURCE_CAMERA),
    DeviceKind.DEVICE_KIND_MICROPHONE: (AUDIO, track_pb2.TRACK_SOURCE_MICROPHONE),
    DeviceKind.DEVICE_KIND_SCREEN: (VIDEO, track_pb2.TRACK_SOURCE_SCREEN_SHARE),
    DeviceKind.DEVICE_KIND_SCREEN_AUDIO: (AUDIO, track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO),
    DeviceKind.DEVICE_KIND_APP_VIDEO: (VIDEO, track_pb2.TRACK_SOURCE_UNSPECIFIED),
    DeviceKind.DEVICE_KIND_APP_AUDIO: (AUDIO, track_pb2.TRACK_SOURCE_UNSPECIFIED),
}
_PUSHED: Final[Mapping[str, "TrackType.ValueType"]] = {
    "raw_video": VIDEO,
    "encoded_video": VIDEO,
    "pcm": AUDIO,
    "data": DATA,
}
_UNKNOWN: Final = TrackType.TRACK_TYPE_UNSPECIFIED

T = TypeVar("T", bound=int)


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream of a file that is to be published. None where the file does not tell."""

    type: "TrackType.ValueType"
    width: int | None = None
    """Pixels. None for audio."""
    height: int | None = None
    """Pixels. None for audio."""
    frames_per_second: float | None = None
    duration_s: float | None = None
    """Length of the file, seconds."""


def type_of(spec: PublicationSpec, stream: Stream | None) -> "TrackType.ValueType":
    """What the track carries; ``stream`` is given for file inputs.

    An ingress's is video, unless only sound is spoken of: LiveKit Ingress publishes what comes, and the publication
    follows the track of that type.
    """
    match spec.WhichOneof("input"):
        case "test_pattern":
            return VIDEO
        case "tone":
            return AUDIO
        case "data":
            return DATA
        case "push":
            return _PUSHED.get(spec.push.WhichOneof("format") or "", _UNKNOWN)
        case "device":
            return _DEVICES.get(spec.device.kind, (_UNKNOWN, 0))[0]
        case "ingress":
            sound = spec.source in SOURCES[AUDIO] or (spec.HasField("audio") and not spec.HasField("video"))
            return AUDIO if sound else VIDEO
        case _:
            return stream.type if stream is not None else _UNKNOWN


def source_of(
    spec: PublicationSpec, kind: "TrackType.ValueType", allowed: Collection["TrackSource.ValueType"] | None
) -> "TrackSource.ValueType":
    """The source that is asked for, or by default: the device's own, or the first of the type that is ``allowed``.

    Unspecified for data. Raises InvalidOptions where the one that is asked for does not fit.
    """
    own = _DEVICES.get(spec.device.kind, (_UNKNOWN, track_pb2.TRACK_SOURCE_UNSPECIFIED))[1]
    if spec.source and spec.source not in ((own,) if own else SOURCES.get(kind, ())):
        raise InvalidOptions(f"source {TrackSource.Name(spec.source)} does not fit the input", field="spec.source")
    choices = SOURCES.get(kind, (track_pb2.TRACK_SOURCE_UNSPECIFIED,))
    return spec.source or own or first(choices, allowed)


def likely_source(spec: PublicationSpec) -> "TrackSource.ValueType":
    """The source that is asked for, or that its device has; unspecified where that is open."""
    return spec.source or _DEVICES.get(spec.device.kind, (_UNKNOWN, track_pb2.TRACK_SOURCE_UNSPECIFIED))[1]


def are_messages(spec: PublicationSpec) -> bool:
    """Whether it is data messages, not a data track."""
    return spec.data_options.delivery in (DATA_DELIVERY_RELIABLE_MESSAGES, DATA_DELIVERY_LOSSY_MESSAGES)


def first(choices: Sequence[T], allowed: Collection[T] | None) -> T:
    """The first of the choices that is allowed; the first of all where none is, to be refused."""
    return next((choice for choice in choices if allowed is None or choice in allowed), choices[0])
