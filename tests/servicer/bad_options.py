"""Specs whose options cannot be: name, spec, status code, reason, field at fault."""

from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.publications import pattern
from track.v1 import media_frame_pb2, publication_pb2, track_pb2

INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION: Final = grpc.StatusCode.FAILED_PRECONDITION

Pub = publication_pb2
Spec = publication_pb2.PublicationSpec


def file(uri: str, **more: object) -> Spec:
    """A file input."""
    return Spec(file=Pub.FileInput(uri=uri, **more))  # type: ignore[arg-type]


def labelled(**fields: object) -> Spec:
    """A tone with those fields of PublicationSpec."""
    return Spec(tone=Pub.ToneInput(), **fields)  # type: ignore[arg-type]


def layers(*sizes: tuple[int, int]) -> list[Pub.VideoLayerOptions]:
    """Layers of those sizes."""
    return [Pub.VideoLayerOptions(width=width, height=height) for width, height in sizes]


def message(payload: bytes = b"{}", delivery: int = Pub.DATA_DELIVERY_RELIABLE_MESSAGES, **options: object) -> Spec:
    """Data messages."""
    data_options = Pub.DataOptions(delivery=delivery, **options)  # type: ignore[arg-type]
    return Spec(data=Pub.DataInput(payload=payload), data_options=data_options)


def pushed(video: Pub.VideoOptions | None = None, **push: object) -> Spec:
    """Frames that the caller streams."""
    return Spec(push=Pub.PushInput(**push), video=video)  # type: ignore[arg-type]


SENT = layers((320, 180), (640, 360), (1280, 720))
CAMERA = Pub.DeviceInput(kind=Pub.DEVICE_KIND_CAMERA)
RAW, ENCODED = media_frame_pb2.RawVideoFormat(), media_frame_pb2.EncodedVideoFormat()
PCM, DATA = media_frame_pb2.PcmFormat(), media_frame_pb2.DataFormat()
JSON = Pub.PAYLOAD_TYPE_JSON
LAYERS, MODE, PREFERENCE = (f"spec.video.{name}" for name in ("layers", "scalability_mode", "degradation_preference"))
OPTIONS = "spec.data_options"
BAD_OPTIONS: Final = [
    ("layers of a size alone", pattern(1280, 720, layers=layers((1280, 720))), INVALID, "INVALID_OPTIONS", LAYERS),
    (
        "layers out of order",
        pattern(1280, 720, layers=layers((640, 360), (320, 180), (1280, 720))),
        INVALID,
        "INVALID_OPTIONS",
        f"{LAYERS}[1]",
    ),
    (
        "layers of other proportions",
        pattern(1280, 720, layers=layers((320, 240), (640, 360), (1280, 720))),
        INVALID,
        "INVALID_OPTIONS",
        f"{LAYERS}[0]",
    ),
    (
        "layers below the full size",
        pattern(1280, 720, layers=layers((320, 180), (640, 360))),
        INVALID,
        "INVALID_OPTIONS",
        f"{LAYERS}[1]",
    ),
    (
        "odd layers",
        pattern(1280, 720, layers=layers((321, 180), (640, 360), (1280, 720))),
        INVALID,
        "INVALID_FIELD",
        f"{LAYERS}[0].width",
    ),
    (
        "layers without simulcast",
        pattern(1280, 720, simulcast=False, layers=SENT),
        INVALID,
        "INVALID_OPTIONS",
        LAYERS,
    ),
    ("layers of vp9", pattern(1280, 720, codec=Pub.VIDEO_CODEC_VP9, layers=SENT), INVALID, "INVALID_OPTIONS", LAYERS),
    (
        "layers that the SDK does not send",
        pattern(1280, 720, layers=layers((426, 240), (854, 480), (1280, 720))),
        PRECONDITION,
        "NOT_SUPPORTED",
        LAYERS,
    ),
    (
        "layers of a video that is too small for any",
        pattern(320, 180, layers=layers((160, 90), (320, 180))),
        PRECONDITION,
        "NOT_SUPPORTED",
        LAYERS,
    ),
    (
        "bitrate of a layer that is not that of the SDK",
        pattern(1280, 720, layers=[Pub.VideoLayerOptions(width=320, height=180, max_bitrate_bps=99_000), *SENT[1:]]),
        PRECONDITION,
        "NOT_SUPPORTED",
        LAYERS,
    ),
    (
        "bitrate of a layer above that of a larger one",
        pattern(1280, 720, layers=[Pub.VideoLayerOptions(width=320, height=180, max_bitrate_bps=9_000_000), *SENT[1:]]),
        INVALID,
        "INVALID_OPTIONS",
        f"{LAYERS}[0].max_bitrate_bps",
    ),
    (
        "bitrate that no layer can use",
        pattern(
            1280,
            720,
            max_bitrate_bps=5_000_000,
            layers=[*SENT[:2], Pub.VideoLayerOptions(width=1280, height=720, max_bitrate_bps=2_000_000)],
        ),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.max_bitrate_bps",
    ),
    (
        "bitrate below that of the layer beneath",
        pattern(1280, 720, max_bitrate_bps=300_000, layers=SENT),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.max_bitrate_bps",
    ),
    (
        "bitrate beyond the raw picture",
        pattern(64, 64, 1, max_bitrate_bps=20_000_000),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.max_bitrate_bps",
    ),
    (
        "layer faster than the track",
        pattern(1280, 720, 15, layers=[Pub.VideoLayerOptions(width=320, height=180, frames_per_second=30), *SENT[1:]]),
        INVALID,
        "INVALID_OPTIONS",
        f"{LAYERS}[0].frames_per_second",
    ),
    ("scalability of vp8", pattern(scalability_mode="L1T2"), INVALID, "INVALID_OPTIONS", MODE),
    (
        "no such scalability mode",
        pattern(codec=Pub.VIDEO_CODEC_VP9, scalability_mode="L4T4"),
        INVALID,
        "INVALID_FIELD",
        MODE,
    ),
    (
        "scalability mode that nobody receives",
        pattern(codec=Pub.VIDEO_CODEC_AV1, scalability_mode="S3T3"),
        PRECONDITION,
        "NOT_SUPPORTED",
        MODE,
    ),
    (
        "bitrate with which the full size is not sent",
        pattern(960, 540, codec=Pub.VIDEO_CODEC_VP9, scalability_mode="L3T3", max_bitrate_bps=400_000),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.max_bitrate_bps",
    ),
    ("no such preference", pattern(degradation_preference=9), INVALID, "INVALID_FIELD", PREFERENCE),
    (
        "stereo with red",
        labelled(audio=Pub.AudioOptions(stereo=True, red=True)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.audio.red",
    ),
    (
        "echo of nothing",
        labelled(audio=Pub.AudioOptions(echo_cancellation=True)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.audio.echo_cancellation",
    ),
    (
        "noise of a tone",
        labelled(audio=Pub.AudioOptions(noise_suppression=True)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.audio.noise_suppression",
    ),
    (
        "gain of a tone",
        labelled(audio=Pub.AudioOptions(auto_gain_control=True)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.audio.auto_gain_control",
    ),
    (
        "offset beyond the end",
        file("silent.mkv", start_offset=Duration(seconds=60)),
        INVALID,
        "INVALID_FIELD",
        "spec.file.start_offset",
    ),
    (
        "offset before the beginning",
        file("silent.mkv", start_offset=Duration(seconds=-1)),
        INVALID,
        "INVALID_FIELD",
        "spec.file.start_offset",
    ),
    (
        "data options of a tone",
        labelled(data_options=Pub.DataOptions()),
        INVALID,
        "INVALID_OPTIONS",
        "spec.data_options",
    ),
    ("topic of a data track", message(delivery=0, topic="t"), INVALID, "INVALID_OPTIONS", f"{OPTIONS}.topic"),
    (
        "destination of a data track",
        message(delivery=0, destination_identities=["a"]),
        INVALID,
        "INVALID_OPTIONS",
        f"{OPTIONS}.destination_identities",
    ),
    (
        "the same destination twice",
        message(destination_identities=["a", "a"]),
        INVALID,
        "INVALID_FIELD",
        f"{OPTIONS}.destination_identities",
    ),
    ("reliable and unordered", message(ordered=False), INVALID, "INVALID_OPTIONS", f"{OPTIONS}.ordered"),
    (
        "lossy and ordered",
        message(delivery=Pub.DATA_DELIVERY_LOSSY_MESSAGES, ordered=True),
        INVALID,
        "INVALID_OPTIONS",
        f"{OPTIONS}.ordered",
    ),
    ("no such delivery", message(delivery=9), INVALID, "INVALID_FIELD", f"{OPTIONS}.delivery"),
    ("payload no JSON", message(b"{", payload_type=JSON), INVALID, "INVALID_FIELD", "spec.data.payload"),
    ("payload no JSON number", message(b"NaN", payload_type=JSON), INVALID, "INVALID_FIELD", "spec.data.payload"),
    (
        "payload deeper than deep",
        message(b"[" * 9000, payload_type=JSON),
        INVALID,
        "INVALID_FIELD",
        "spec.data.payload",
    ),
    (
        "payload no text",
        message(b"\xff", payload_type=Pub.PAYLOAD_TYPE_TEXT),
        INVALID,
        "INVALID_FIELD",
        "spec.data.payload",
    ),
    (
        "numbered frames as JSON",
        message(b"", payload_type=JSON),
        INVALID,
        "INVALID_OPTIONS",
        f"{OPTIONS}.payload_type",
    ),
    ("payload beyond its limit", message(b"12345", max_payload_bytes=4), INVALID, "INVALID_FIELD", "spec.data.payload"),
    ("payload beyond a message", message(b"x" * 15_001), INVALID, "INVALID_FIELD", "spec.data.payload"),
    (
        "limit beyond a message",
        message(max_payload_bytes=15_001),
        INVALID,
        "INVALID_OPTIONS",
        f"{OPTIONS}.max_payload_bytes",
    ),
    (
        "no key",
        labelled(encryption=Pub.EncryptionOptions()),
        INVALID,
        "INVALID_FIELD",
        "spec.encryption.shared_key",
    ),
    (
        "encryption by a client",
        Spec(device=CAMERA, encryption=Pub.EncryptionOptions(shared_key=b"k")),
        INVALID,
        "INVALID_OPTIONS",
        "spec.encryption",
    ),
    (
        "an app's source without its name",
        Spec(device=Pub.DeviceInput(kind=Pub.DEVICE_KIND_APP_VIDEO)),
        INVALID,
        "INVALID_FIELD",
        "spec.device.device",
    ),
    (
        "a camera that is a screen",
        Spec(device=CAMERA, source=track_pb2.TRACK_SOURCE_SCREEN_SHARE),
        INVALID,
        "INVALID_OPTIONS",
        "spec.source",
    ),
    ("pushed pictures of no size", pushed(raw_video=RAW), INVALID, "INVALID_FIELD", "spec.video.width"),
    (
        "pushed AV1",
        pushed(encoded_video=ENCODED, video=Pub.VideoOptions(codec=Pub.VIDEO_CODEC_AV1, width=64, height=64)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.codec",
    ),
    (
        "pushed layers",
        pushed(encoded_video=ENCODED, video=Pub.VideoOptions(simulcast=True, width=1280, height=720)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.simulcast",
    ),
    (
        "muted after its end",
        pushed(pcm=PCM, stall_mute=Duration(seconds=9), stall_end=Duration(seconds=9)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.push.stall_end",
    ),
    (
        "muted data",
        pushed(data=DATA, stall_mute=Duration(seconds=1)),
        INVALID,
        "INVALID_OPTIONS",
        "spec.push.stall_mute",
    ),
]
