"""What is to be published: the caller's spec checked, and completed with the defaults that it leaves open. Pure."""

from dataclasses import dataclass
from typing import Final

from google.protobuf import json_format

from track.v1 import publication_pb2, track_pb2
from track_server.errors import InvalidOptions

AUDIO: Final = track_pb2.TRACK_TYPE_AUDIO
VIDEO: Final = track_pb2.TRACK_TYPE_VIDEO
DATA: Final = track_pb2.TRACK_TYPE_DATA

BITS_PER_PIXEL: Final = 0.07
"""Default bitrate: Kush-gauge with a factor of 0.07 for low motion, 1.94 Mbit/s for 720p30."""
DEFAULT_SIZE: Final = (1280, 720)
DEFAULT_FRAMES_PER_SECOND: Final = 30.0
DEFAULT_AUDIO_BITRATE_BPS: Final = 48_000
MIN_BITRATE_BPS: Final = 50_000
MAX_BITRATE_BPS: Final = 20_000_000
SIMULCAST_EDGE: Final = 960
"""Below this long edge, in pixels, LiveKit's SDK has no smaller layer to send."""
MAX_METADATA_BYTES: Final = 16 * 1024

# These codecs are sent as one stream with scalable layers instead.
_NO_SIMULCAST: Final = {
    publication_pb2.VIDEO_CODEC_VP9: "VP9",
    publication_pb2.VIDEO_CODEC_AV1: "AV1",
}
_SOURCES: Final = {
    AUDIO: (track_pb2.TRACK_SOURCE_MICROPHONE, track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO),
    VIDEO: (track_pb2.TRACK_SOURCE_CAMERA, track_pb2.TRACK_SOURCE_SCREEN_SHARE),
}


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


def complete(
    spec: publication_pb2.PublicationSpec, publication_id: str, stream: Stream | None
) -> publication_pb2.PublicationSpec:
    """A copy of ``spec`` with every default filled in. Raises InvalidOptions with the field at fault."""
    result = publication_pb2.PublicationSpec()
    result.CopyFrom(spec)
    kind = type_of(spec, stream)
    _check_kind(result, kind)
    result.name = result.name or publication_id
    if kind != DATA:
        result.source = result.source or _SOURCES[kind][0]
    match kind:
        case track_pb2.TRACK_TYPE_VIDEO:
            _complete_video(result.video, stream or Stream(VIDEO))
        case track_pb2.TRACK_TYPE_AUDIO:
            _complete_audio(result.audio)
        case _:
            _complete_data(result.data)
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
    size = len(json_format.MessageToJson(spec.metadata, indent=None).encode()) if spec.HasField("metadata") else 0
    if size > MAX_METADATA_BYTES:
        raise InvalidOptions(f"metadata has {size} bytes of {MAX_METADATA_BYTES} allowed", field="spec.metadata")


def _complete_video(video: publication_pb2.VideoOptions, stream: Stream) -> None:
    if bool(video.width) != bool(video.height):
        raise InvalidOptions(
            "width and height go together", field="spec.video.height" if video.width else "spec.video.width"
        )
    video.codec = video.codec or publication_pb2.VIDEO_CODEC_VP8
    if not video.width:
        video.width = _even(stream.width or DEFAULT_SIZE[0], 3840)
        video.height = _even(stream.height or DEFAULT_SIZE[1], 2160)
    if not video.frames_per_second:
        video.frames_per_second = min(max(stream.frames_per_second or DEFAULT_FRAMES_PER_SECOND, 1.0), 60.0)
    if not video.max_bitrate_bps:
        pixels = video.width * video.height * video.frames_per_second
        video.max_bitrate_bps = min(max(round(pixels * BITS_PER_PIXEL), MIN_BITRATE_BPS), MAX_BITRATE_BPS)
    codec = _NO_SIMULCAST.get(video.codec)
    if codec is not None and video.simulcast:
        raise InvalidOptions(
            f"{codec} is not sent as simulcast but as one stream with scalable layers", field="spec.video.simulcast"
        )
    if not video.HasField("simulcast"):
        video.simulcast = codec is None and max(video.width, video.height) >= SIMULCAST_EDGE


def _complete_audio(audio: publication_pb2.AudioOptions) -> None:
    audio.max_bitrate_bps = audio.max_bitrate_bps or DEFAULT_AUDIO_BITRATE_BPS
    if not audio.HasField("dtx"):
        audio.dtx = True
    if not audio.HasField("red"):
        audio.red = True


def _complete_data(data: publication_pb2.DataInput) -> None:
    if data.payload and data.frame_bytes:
        raise InvalidOptions(
            "frame_bytes is for numbered frames, payload for fixed ones", field="spec.data.frame_bytes"
        )
    data.frames_per_second = data.frames_per_second or 10.0
    if not data.payload:
        data.frame_bytes = data.frame_bytes or 64


def _even(value: int, most: int) -> int:
    return max(16, min(value, most) // 2 * 2)
