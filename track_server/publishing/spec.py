"""What is to be published: the caller's spec checked, and completed with the defaults that it leaves open. Pure."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf import struct_pb2

from track.v1 import publication_pb2, track_pb2
from track_server.access.bounds import UNBOUNDED, Bounds, Description
from track_server.errors import InvalidField, InvalidOptions

AUDIO: Final = track_pb2.TRACK_TYPE_AUDIO
VIDEO: Final = track_pb2.TRACK_TYPE_VIDEO
DATA: Final = track_pb2.TRACK_TYPE_DATA

BITS_PER_PIXEL: Final = 0.07
"""Default bitrate: Kush-gauge with a factor of 0.07 for low motion, 1.94 Mbit/s for 720p30."""
DEFAULT_SIZE: Final = (1280, 720)
MAX_SIZE: Final = (3840, 2160)
DEFAULT_FRAMES_PER_SECOND: Final = 30.0
DEFAULT_AUDIO_BITRATE_BPS: Final = 48_000
MIN_BITRATE_BPS: Final = 50_000
MAX_BITRATE_BPS: Final = 20_000_000
SIMULCAST_EDGE: Final = 960
"""Below this long edge, in pixels, LiveKit's SDK has no smaller layer to send."""
MAX_METADATA_DEPTH: Final = 16
"""Objects and lists within one another. Each takes three of the 100 levels that protobuf decodes, and metadata lies
deeper in events, answers and the record than in the request."""
DEFAULT_DATA_FRAMES_PER_SECOND: Final = 10.0
MIN_DATA_FRAMES_PER_SECOND: Final = 0.1

# These codecs are sent as one stream with scalable layers instead.
_NO_SIMULCAST: Final = {
    publication_pb2.VIDEO_CODEC_VP9: "VP9",
    publication_pb2.VIDEO_CODEC_AV1: "AV1",
}
# In the order in which one is chosen where the caller leaves it open.
_CODECS: Final = (
    publication_pb2.VIDEO_CODEC_VP8,
    publication_pb2.VIDEO_CODEC_H264,
    publication_pb2.VIDEO_CODEC_VP9,
    publication_pb2.VIDEO_CODEC_AV1,
)
_SOURCES: Final = {
    AUDIO: (track_pb2.TRACK_SOURCE_MICROPHONE, track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO),
    VIDEO: (track_pb2.TRACK_SOURCE_CAMERA, track_pb2.TRACK_SOURCE_SCREEN_SHARE),
}


T = TypeVar("T", bound=int)


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream of a file that is to be published. Sizes in pixels; None for audio or where the file does not tell."""

    type: track_pb2.TrackType.ValueType
    width: int | None = None
    height: int | None = None
    frames_per_second: float | None = None


def type_of(spec: publication_pb2.PublicationSpec, stream: Stream | None) -> track_pb2.TrackType.ValueType:
    """What the track carries; ``stream`` is given for file inputs."""
    match spec.WhichOneof("input"):
        case "test_pattern":
            return VIDEO
        case "tone":
            return AUDIO
        case "data":
            return DATA
        case _:
            return stream.type if stream is not None else track_pb2.TRACK_TYPE_UNSPECIFIED


def description_of(
    spec: publication_pb2.PublicationSpec, kind: track_pb2.TrackType.ValueType = track_pb2.TRACK_TYPE_UNSPECIFIED
) -> Description:
    """What is said of the track so far; ``kind`` where the input alone does not tell."""
    return Description(
        type=type_of(spec, None) or spec.file.type or kind,
        source=spec.source,
        codec=spec.video.codec,
        width=spec.video.width,
        height=spec.video.height,
        frames_per_second=spec.video.frames_per_second,
        max_bitrate_bps=spec.video.max_bitrate_bps or spec.audio.max_bitrate_bps or data_bps(spec),
    )


def data_bps(spec: publication_pb2.PublicationSpec) -> int:
    """Bits per second of a data track's frames; 0 where their size or rate is left open."""
    size = len(spec.data.payload) or spec.data.frame_bytes
    return round(size * 8 * spec.data.frames_per_second)


def check_metadata(metadata: struct_pb2.Struct) -> None:
    """Raises InvalidField where it is no JSON object, or nested too deeply to be shown to anybody."""
    inside = [(value, 1) for value in metadata.fields.values()]
    while inside:
        value, depth = inside.pop()
        if depth > MAX_METADATA_DEPTH:
            raise InvalidField(f"metadata is nested more than {MAX_METADATA_DEPTH} deep", field="spec.metadata")
        match value.WhichOneof("kind"):
            case "struct_value":
                inside += [(child, depth + 1) for child in value.struct_value.fields.values()]
            case "list_value":
                inside += [(child, depth + 1) for child in value.list_value.values]
            case "number_value" if not math.isfinite(value.number_value):
                raise InvalidField("metadata has a number that JSON does not have", field="spec.metadata")
            case None:
                raise InvalidField("metadata has a value that is not set", field="spec.metadata")


def complete(
    spec: publication_pb2.PublicationSpec,
    publication_id: str,
    stream: Stream | None,
    bounds: Bounds = UNBOUNDED,
    max_pixels: int = MAX_SIZE[0] * MAX_SIZE[1],
) -> publication_pb2.PublicationSpec:
    """A copy of ``spec`` with every default filled in, within ``bounds`` and ``max_pixels``: what the caller asked for
    itself stays.

    Raises InvalidOptions and InvalidField with the field at fault.
    """
    check_metadata(spec.metadata)
    result = publication_pb2.PublicationSpec()
    result.CopyFrom(spec)
    kind = type_of(spec, stream)
    _check_kind(result, kind)
    result.name = result.name or publication_id
    if kind != DATA:
        result.source = result.source or _first(_SOURCES[kind], bounds.sources)
    match kind:
        case track_pb2.TRACK_TYPE_VIDEO:
            _complete_video(result.video, stream or Stream(VIDEO), bounds, max_pixels)
        case track_pb2.TRACK_TYPE_AUDIO:
            _complete_audio(result.audio, bounds)
        case _:
            _complete_data(result.data, bounds)
    if result.HasField("tone"):
        result.tone.frequency_hz = result.tone.frequency_hz or 440.0
        if not result.tone.HasField("level_dbfs"):
            result.tone.level_dbfs = -20.0
    if result.HasField("file"):
        result.file.type = kind
    return result


def _check_kind(spec: publication_pb2.PublicationSpec, kind: track_pb2.TrackType.ValueType) -> None:
    if spec.HasField("video") and kind != VIDEO:
        raise InvalidOptions("video options are for video inputs", field="spec.video")
    if spec.HasField("audio") and kind != AUDIO:
        raise InvalidOptions("audio options are for audio inputs", field="spec.audio")
    if spec.source and spec.source not in _SOURCES.get(kind, ()):
        raise InvalidOptions(
            f"source {track_pb2.TrackSource.Name(spec.source)} does not fit the input", field="spec.source"
        )


def _complete_video(video: publication_pb2.VideoOptions, stream: Stream, bounds: Bounds, max_pixels: int) -> None:
    if bool(video.width) != bool(video.height):
        raise InvalidOptions(
            "width and height go together", field="spec.video.height" if video.width else "spec.video.width"
        )
    video.codec = video.codec or _first(_CODECS, bounds.codecs)
    if not video.width:
        video.width, video.height = _default_size(stream, bounds, max_pixels)
    if not video.frames_per_second:
        most = min(60.0, bounds.max_frames_per_second or 60.0)
        video.frames_per_second = min(max(stream.frames_per_second or DEFAULT_FRAMES_PER_SECOND, 1.0), most)
    if not video.max_bitrate_bps:
        pixels = video.width * video.height * video.frames_per_second
        default = min(max(round(pixels * BITS_PER_PIXEL), MIN_BITRATE_BPS), MAX_BITRATE_BPS)
        video.max_bitrate_bps = min(default, bounds.max_bitrate_bps or default)
    codec = _NO_SIMULCAST.get(video.codec)
    if codec is not None and video.simulcast:
        raise InvalidOptions(
            f"{codec} is not sent as simulcast but as one stream with scalable layers", field="spec.video.simulcast"
        )
    if not video.HasField("simulcast"):
        video.simulcast = codec is None and max(video.width, video.height) >= SIMULCAST_EDGE


def _default_size(stream: Stream, bounds: Bounds, max_pixels: int) -> tuple[int, int]:
    """The input's size, scaled down in its proportions to what is allowed."""
    width, height = stream.width or DEFAULT_SIZE[0], stream.height or DEFAULT_SIZE[1]
    widest, highest = min(MAX_SIZE[0], bounds.max_width or width), min(MAX_SIZE[1], bounds.max_height or height)
    scale = min(1.0, widest / width, highest / height, math.sqrt(max_pixels / (width * height)))
    # A little for the rounding of what is exact.
    return _even(int(width * scale + 1e-6), widest), _even(int(height * scale + 1e-6), highest)


def _first(choices: Sequence[T], allowed: Collection[T] | None) -> T:
    """The first of the choices that is allowed; the first of all where none is, to be refused."""
    return next((choice for choice in choices if allowed is None or choice in allowed), choices[0])


def _complete_audio(audio: publication_pb2.AudioOptions, bounds: Bounds) -> None:
    most = bounds.max_bitrate_bps or DEFAULT_AUDIO_BITRATE_BPS
    audio.max_bitrate_bps = audio.max_bitrate_bps or min(DEFAULT_AUDIO_BITRATE_BPS, most)
    if not audio.HasField("dtx"):
        audio.dtx = True
    if not audio.HasField("red"):
        audio.red = True


def _complete_data(data: publication_pb2.DataInput, bounds: Bounds) -> None:
    if data.payload and data.frame_bytes:
        raise InvalidOptions(
            "frame_bytes is for numbered frames, payload for fixed ones", field="spec.data.frame_bytes"
        )
    if not data.payload:
        data.frame_bytes = data.frame_bytes or 64
    if not data.frames_per_second:
        frame_bits = 8 * (len(data.payload) or data.frame_bytes)
        most = bounds.max_bitrate_bps / frame_bits if bounds.max_bitrate_bps else DEFAULT_DATA_FRAMES_PER_SECOND
        data.frames_per_second = max(MIN_DATA_FRAMES_PER_SECOND, min(DEFAULT_DATA_FRAMES_PER_SECOND, most))


def _even(value: int, most: int) -> int:
    return max(16, min(value, most) // 2 * 2)
