"""Inputs: completed, and held against what they carry. Pure."""

from typing import Final

from google.protobuf import duration_pb2

from track.v1.ingress_pb2 import IngressInput, IngressType
from track.v1.media_frame_pb2 import PixelFormat
from track.v1.publication_pb2 import DeviceKind, PublicationSpec, PushInput, ToneInput
from track.v1.track_pb2 import TrackType
from track_server.durations import duration_of, seconds_of
from track_server.errors import InvalidField, InvalidOptions
from track_server.publishing.spec.kinds import DATA, Stream

DEFAULT_FREQUENCY_HZ: Final = 440.0
DEFAULT_LEVEL_DBFS: Final = -20.0
DEFAULT_STALL_MUTE_S: Final = 2.0
DEFAULT_STALL_END_S: Final = 30.0
DEFAULT_RESUME_GRACE_S: Final = 10.0
DEFAULT_SAMPLE_RATE_HZ: Final = 48_000

_BY_NAME: Final = (DeviceKind.DEVICE_KIND_APP_VIDEO, DeviceKind.DEVICE_KIND_APP_AUDIO)


def complete_input(spec: PublicationSpec, kind: "TrackType.ValueType", stream: Stream | None) -> None:
    """Fills in the input's defaults; ``stream`` is given for files. Raises InvalidField, InvalidOptions."""
    match spec.WhichOneof("input"):
        case "tone":
            _complete_tone(spec.tone)
        case "file":
            spec.file.type = kind
            _check_offset(spec.file.start_offset, stream.duration_s if stream is not None else None)
        case "push":
            _complete_push(spec.push, kind)
        case "device":
            if spec.device.kind in _BY_NAME and not spec.device.device:
                raise InvalidField("the app's source needs its name", field="spec.device.device")
        case "ingress":
            _complete_ingress(spec.ingress)
        case _:
            pass


def _complete_ingress(ingress: IngressInput) -> None:
    whip = ingress.type == IngressType.INGRESS_TYPE_WHIP
    if bool(ingress.url) != (ingress.type == IngressType.INGRESS_TYPE_URL):
        raise InvalidOptions("a url is what an ingress of type URL pulls", field="spec.ingress.url")
    if not ingress.HasField("enable_transcoding"):
        ingress.enable_transcoding = not whip
    if not ingress.enable_transcoding and not whip:
        raise InvalidOptions("only WHIP comes without transcoding", field="spec.ingress.enable_transcoding")


def _complete_tone(tone: ToneInput) -> None:
    tone.frequency_hz = tone.frequency_hz or DEFAULT_FREQUENCY_HZ
    if not tone.HasField("level_dbfs"):
        tone.level_dbfs = DEFAULT_LEVEL_DBFS


def _check_offset(offset: duration_pb2.Duration, duration_s: float | None) -> None:
    if duration_s is not None and seconds_of(offset) >= max(duration_s, 1e-9):
        raise InvalidField("the media ends before start_offset", field="spec.file.start_offset")


def _complete_push(push: PushInput, kind: "TrackType.ValueType") -> None:
    match push.WhichOneof("format"):
        case "raw_video":
            push.raw_video.pixel_format = push.raw_video.pixel_format or PixelFormat.PIXEL_FORMAT_I420
        case "pcm":
            push.pcm.sample_rate_hz = push.pcm.sample_rate_hz or DEFAULT_SAMPLE_RATE_HZ
            push.pcm.channels = push.pcm.channels or 1
        case _:
            pass
    if not push.HasField("stall_end"):
        push.stall_end.CopyFrom(duration_of(DEFAULT_STALL_END_S))
        if push.stall_mute.ToNanoseconds() >= push.stall_end.ToNanoseconds():
            raise InvalidOptions("stall_end is more than stall_mute: it must be given", field="spec.push.stall_end")
    if not push.HasField("resume_grace"):
        push.resume_grace.CopyFrom(duration_of(DEFAULT_RESUME_GRACE_S))
    if kind == DATA:
        if push.HasField("stall_mute"):
            raise InvalidOptions("data cannot be muted", field="spec.push.stall_mute")
        return
    end_s = seconds_of(push.stall_end)
    if not push.HasField("stall_mute"):
        push.stall_mute.CopyFrom(duration_of(min(DEFAULT_STALL_MUTE_S, end_s / 2)))
    if push.stall_mute.ToNanoseconds() >= push.stall_end.ToNanoseconds():
        raise InvalidOptions("stall_end must be more than stall_mute", field="spec.push.stall_end")
