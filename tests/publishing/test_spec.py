"""What is to be published: defaults are filled in, contradictions are named."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from track.v1 import ingress_pb2, media_frame_pb2, track_pb2
from track.v1 import publication_pb2 as pb
from track_server.errors import InvalidField, InvalidOptions, NotSupported
from track_server.publishing.spec import Stream, check_payload, complete, sdk_lower_layers, type_of
from track_server.publishing.spec.layers import BITS_PER_PIXEL

AUDIO = track_pb2.TRACK_TYPE_AUDIO
VIDEO = track_pb2.TRACK_TYPE_VIDEO


def spec(**fields: Any) -> pb.PublicationSpec:
    return pb.PublicationSpec(**fields)


def test_a_bare_test_pattern_is_720p30_simulcast_vp8_from_a_camera() -> None:
    done = complete(spec(test_pattern=pb.TestPatternInput()), "PUB_1", None)
    assert (done.video.width, done.video.height, done.video.frames_per_second) == (1280, 720, 30)
    assert done.video.codec == pb.VIDEO_CODEC_VP8
    assert done.video.simulcast
    assert done.video.max_bitrate_bps == round(1280 * 720 * 30 * BITS_PER_PIXEL)
    assert done.source == track_pb2.TRACK_SOURCE_CAMERA
    assert done.name == "PUB_1"


@pytest.mark.parametrize(
    ("source", "bitrate_bps", "simulcast"),
    [
        (track_pb2.TRACK_SOURCE_CAMERA, 449_999, False),
        (track_pb2.TRACK_SOURCE_CAMERA, 450_000, True),
        (track_pb2.TRACK_SOURCE_SCREEN_SHARE, 149_999, False),
        (track_pb2.TRACK_SOURCE_SCREEN_SHARE, 150_000, True),
    ],
)
def test_a_bitrate_below_that_of_the_lower_layers_is_no_simulcast(
    source: "track_pb2.TrackSource.ValueType", bitrate_bps: int, simulcast: bool
) -> None:
    asked = spec(test_pattern=pb.TestPatternInput(), source=source, video=pb.VideoOptions(max_bitrate_bps=bitrate_bps))
    done = complete(asked, "PUB_1", None)
    assert (done.video.simulcast, done.video.max_bitrate_bps) == (simulcast, bitrate_bps)
    asked.video.simulcast = True
    if simulcast:
        assert complete(asked, "PUB_1", None) == done
    else:
        with pytest.raises(InvalidOptions) as refused:
            complete(asked, "PUB_1", None)
        assert refused.value.field == "spec.video.max_bitrate_bps"


def test_a_slow_video_in_layers_has_no_less_than_the_layer_below() -> None:
    video = pb.VideoOptions(frames_per_second=5)
    done = complete(spec(test_pattern=pb.TestPatternInput(), video=video), "PUB_1", None)
    assert (done.video.simulcast, done.video.max_bitrate_bps) == (True, 450_000)
    video.simulcast = False
    done = complete(spec(test_pattern=pb.TestPatternInput(), video=video), "PUB_1", None)
    assert done.video.max_bitrate_bps == round(1280 * 720 * 5 * BITS_PER_PIXEL)
    # A client chooses its layers itself.
    device = pb.DeviceInput(kind=pb.DEVICE_KIND_CAMERA)
    video = pb.VideoOptions(max_bitrate_bps=100_000)
    assert complete(spec(device=device, video=video), "PUB_1", None).video.simulcast


def test_a_bare_tone_is_a_microphone_with_dtx_and_red() -> None:
    done = complete(spec(tone=pb.ToneInput()), "PUB_1", None)
    assert done.tone.frequency_hz == 440
    assert done.tone.level_dbfs == -20
    assert done.audio.max_bitrate_bps == 48_000
    assert done.audio.dtx
    assert done.audio.red
    assert done.source == track_pb2.TRACK_SOURCE_MICROPHONE


def test_what_was_said_is_kept() -> None:
    audio = pb.AudioOptions(max_bitrate_bps=16_000, dtx=False, red=False)
    done = complete(spec(tone=pb.ToneInput(level_dbfs=0), audio=audio, name="x"), "PUB_1", None)
    assert done.audio == audio
    assert done.tone.level_dbfs == 0
    assert done.name == "x"


def test_a_file_takes_the_size_and_rate_of_its_stream() -> None:
    done = complete(spec(file=pb.FileInput(uri="a.mp4")), "PUB_1", Stream(VIDEO, 641, 361, 25))
    assert (done.video.width, done.video.height, done.video.frames_per_second) == (640, 360, 25)
    assert done.file.type == VIDEO


def test_a_file_without_video_is_audio() -> None:
    done = complete(spec(file=pb.FileInput(uri="a.wav")), "PUB_1", Stream(AUDIO))
    assert done.file.type == AUDIO
    assert done.source == track_pb2.TRACK_SOURCE_MICROPHONE


def test_numbered_data_frames_have_a_size_and_fixed_ones_have_theirs() -> None:
    assert complete(spec(data=pb.DataInput()), "PUB_1", None).data.frame_bytes == 64
    assert complete(spec(data=pb.DataInput(payload=b"x")), "PUB_1", None).data.frame_bytes == 0


@pytest.mark.parametrize("codec", [pb.VIDEO_CODEC_VP9, pb.VIDEO_CODEC_AV1])
def test_codecs_with_scalable_layers_are_not_simulcast(codec: pb.VideoCodec.ValueType) -> None:
    done = complete(spec(test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(codec=codec)), "PUB_1", None)
    assert not done.video.simulcast
    wrong = spec(test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(codec=codec, simulcast=True))
    with pytest.raises(InvalidOptions) as raised:
        complete(wrong, "PUB_1", None)
    assert raised.value.field == "spec.video.simulcast"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (spec(tone=pb.ToneInput(), video=pb.VideoOptions()), "spec.video"),
        (spec(test_pattern=pb.TestPatternInput(), audio=pb.AudioOptions()), "spec.audio"),
        (spec(data=pb.DataInput(), audio=pb.AudioOptions()), "spec.audio"),
        (spec(tone=pb.ToneInput(), source=track_pb2.TRACK_SOURCE_CAMERA), "spec.source"),
        (spec(test_pattern=pb.TestPatternInput(), source=track_pb2.TRACK_SOURCE_MICROPHONE), "spec.source"),
        (spec(data=pb.DataInput(), source=track_pb2.TRACK_SOURCE_CAMERA), "spec.source"),
        (spec(test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(width=640)), "spec.video.height"),
        (spec(test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(height=360)), "spec.video.width"),
        (spec(data=pb.DataInput(payload=b"x", frame_bytes=32)), "spec.data.frame_bytes"),
    ],
)
def test_contradictions_name_their_field(wrong: pb.PublicationSpec, field: str) -> None:
    with pytest.raises(InvalidOptions) as raised:
        complete(wrong, "PUB_1", None)
    assert raised.value.field == field


def test_metadata_is_kept_as_it_is() -> None:
    asked = spec(tone=pb.ToneInput())
    asked.metadata.update({"a": [1.5, None, "x", True], "b": {"c": {}}})
    assert complete(asked, "PUB_1", None).metadata == asked.metadata


Layer = pb.VideoLayerOptions
DEVICES = [
    (pb.DEVICE_KIND_CAMERA, VIDEO, track_pb2.TRACK_SOURCE_CAMERA),
    (pb.DEVICE_KIND_MICROPHONE, AUDIO, track_pb2.TRACK_SOURCE_MICROPHONE),
    (pb.DEVICE_KIND_SCREEN, VIDEO, track_pb2.TRACK_SOURCE_SCREEN_SHARE),
    (pb.DEVICE_KIND_SCREEN_AUDIO, AUDIO, track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO),
    (pb.DEVICE_KIND_APP_VIDEO, VIDEO, track_pb2.TRACK_SOURCE_CAMERA),
    (pb.DEVICE_KIND_APP_AUDIO, AUDIO, track_pb2.TRACK_SOURCE_MICROPHONE),
]


def pattern(width: int, height: int, source: int = 0, **video: Any) -> pb.PublicationSpec:
    options = pb.VideoOptions(width=width, height=height, **video)
    return spec(test_pattern=pb.TestPatternInput(), video=options, source=source)


@pytest.mark.parametrize(
    "asked",
    [
        spec(test_pattern=pb.TestPatternInput()),
        pattern(854, 480, layers=[Layer(width=640, height=360), Layer(width=854, height=480)]),
        pattern(960, 540, codec=pb.VIDEO_CODEC_AV1, scalability_mode="L3T3"),
        spec(tone=pb.ToneInput(), audio=pb.AudioOptions(stereo=True)),
        spec(tone=pb.ToneInput(), encryption=pb.EncryptionOptions(shared_key=b"k")),
        spec(data=pb.DataInput(), data_options=pb.DataOptions(delivery=pb.DATA_DELIVERY_LOSSY_MESSAGES)),
        spec(file=pb.FileInput(uri="a.wav", start_offset=Duration(seconds=1), type=AUDIO)),
        spec(push=pb.PushInput(pcm=media_frame_pb2.PcmFormat(), stall_end=Duration(seconds=1))),
        spec(push=pb.PushInput(data=media_frame_pb2.DataFormat())),
        spec(
            push=pb.PushInput(encoded_video=media_frame_pb2.EncodedVideoFormat()),
            video=pb.VideoOptions(width=1280, height=720),
        ),
        spec(device=pb.DeviceInput(kind=pb.DEVICE_KIND_SCREEN)),
        spec(ingress=ingress_pb2.IngressInput(type=ingress_pb2.INGRESS_TYPE_RTMP)),
        spec(ingress=ingress_pb2.IngressInput(type=ingress_pb2.INGRESS_TYPE_WHIP)),
    ],
)  # fmt: skip
def test_what_is_complete_stays_as_it_is(asked: pb.PublicationSpec) -> None:
    stream = Stream(AUDIO, duration_s=2.0) if asked.HasField("file") else None
    done = complete(asked, "PUB_1", stream)
    assert complete(done, "PUB_2", stream) == done


@pytest.mark.parametrize(("kind", "carries", "source"), DEVICES)
def test_a_device_gives_type_and_source(kind: Any, carries: int, source: int) -> None:
    done = complete(spec(device=pb.DeviceInput(kind=kind, device="it")), "PUB_1", None)
    assert (type_of(done, None), done.source) == (carries, source)
    assert done.HasField("video") == (carries == VIDEO)
    assert done.HasField("audio") == (carries == AUDIO)
    # What is processed is the client's choice.
    assert not done.audio.HasField("noise_suppression")
    assert not done.audio.HasField("echo_cancellation")


@pytest.mark.parametrize("option", ["noise_suppression", "echo_cancellation", "auto_gain_control"])
def test_pushed_sound_and_that_of_files_is_processed_where_asked_for(option: str) -> None:
    for given in (
        spec(push=pb.PushInput(pcm=media_frame_pb2.PcmFormat())),
        spec(file=pb.FileInput(uri="a.wav", type=AUDIO)),
    ):
        assert not getattr(complete(given, "PUB_1", Stream(AUDIO)).audio, option)
        setattr(given.audio, option, True)
        assert getattr(complete(given, "PUB_1", Stream(AUDIO)).audio, option)
    for bare in (spec(tone=pb.ToneInput()), spec(test_pattern=pb.TestPatternInput())):
        setattr(bare.audio, option, True)
        with pytest.raises(InvalidOptions):
            complete(bare, "PUB_1", None)


def test_a_client_sends_layers_of_any_size() -> None:
    layers = [Layer(width=480, height=270, frames_per_second=10), Layer(width=960, height=540)]
    asked = spec(
        device=pb.DeviceInput(kind=pb.DEVICE_KIND_CAMERA), video=pb.VideoOptions(frames_per_second=20, layers=layers)
    )
    video = complete(asked, "PUB_1", None).video
    assert (video.width, video.height) == (960, 540)
    assert [layer.frames_per_second for layer in video.layers] == [10, 20]
    assert video.layers[0].max_bitrate_bps == round(480 * 270 * 10 * BITS_PER_PIXEL)
    assert video.layers[1].max_bitrate_bps == video.max_bitrate_bps


@pytest.mark.parametrize(
    ("size", "source", "lower"),
    [
        ((1280, 720), 0, [(320, 180, 160_000, 20), (640, 360, 450_000, 20)]),
        ((1280, 960), 0, [(240, 180, 100_000, 20), (480, 360, 225_000, 20)]),
        ((720, 1280), 0, [(180, 320, 160_000, 20), (360, 640, 450_000, 20)]),
        ((1200, 500), 0, [(432, 180, 160_000, 20), (864, 360, 450_000, 20)]),
        ((854, 480), 0, [(640, 360, 450_000, 20)]),
        ((640, 480), 0, [(480, 360, 225_000, 20)]),
        ((640, 360), 0, []),
        ((320, 180), 0, []),
        ((1280, 720), track_pb2.TRACK_SOURCE_SCREEN_SHARE, [(640, 360, 150_000, 3)]),
    ],
)
def test_the_layers_are_those_that_the_sdk_was_seen_to_send(
    size: tuple[int, int], source: int, lower: list[tuple[int, int, int, float]]
) -> None:
    video = pattern(*size, frames_per_second=30, max_bitrate_bps=1_500_000).video
    found = sdk_lower_layers(video, source)  # type: ignore[arg-type]
    assert [(layer.width, layer.height, layer.max_bitrate_bps, layer.frames_per_second) for layer in found] == lower


def test_layers_that_are_refused_come_with_those_that_can_be_had() -> None:
    asked = pattern(1280, 720, layers=[Layer(width=640, height=360), Layer(width=1280, height=720)])
    with pytest.raises(NotSupported, match=r"320x180.*640x360") as raised:
        complete(asked, "PUB_1", None)
    assert raised.value.field == "spec.video.layers"


def test_scalable_layers_have_a_bitrate_with_which_the_full_size_is_sent() -> None:
    done = complete(
        pattern(960, 540, frames_per_second=10, codec=pb.VIDEO_CODEC_VP9, scalability_mode="L3T3"), "P", None
    )
    assert done.video.max_bitrate_bps >= 624_000
    assert not done.video.simulcast


def test_stereo_has_no_red_and_twice_the_bitrate() -> None:
    done = complete(spec(tone=pb.ToneInput(), audio=pb.AudioOptions(stereo=True)), "PUB_1", None).audio
    assert (done.red, done.max_bitrate_bps) == (False, 2 * 48_000)


def test_messages_have_their_options_filled_in() -> None:
    options = pb.DataOptions(delivery=pb.DATA_DELIVERY_RELIABLE_MESSAGES)
    done = complete(spec(data=pb.DataInput(payload=b"x"), data_options=options, name="n"), "PUB_1", None).data_options
    assert (done.topic, done.ordered, done.max_payload_bytes) == ("n", True, 15_000)
    assert done.payload_type == pb.PAYLOAD_TYPE_BYTES


@pytest.mark.parametrize(
    ("payload_type", "payload", "good"),
    [
        (pb.PAYLOAD_TYPE_BYTES, b"\xff", True),
        (pb.PAYLOAD_TYPE_TEXT, "für".encode(), True),
        (pb.PAYLOAD_TYPE_TEXT, b"\xff", False),
        (pb.PAYLOAD_TYPE_JSON, b'{"a": [1, null]}', True),
        (pb.PAYLOAD_TYPE_JSON, b"1", True),
        (pb.PAYLOAD_TYPE_JSON, b"", False),
        (pb.PAYLOAD_TYPE_JSON, b"Infinity", False),
        (pb.PAYLOAD_TYPE_JSON, b'"\xff"', False),
        (pb.PAYLOAD_TYPE_BYTES, bytes(101), False),
    ],
)
def test_payloads_are_held_against_what_they_are_said_to_be(payload_type: Any, payload: bytes, good: bool) -> None:
    options = pb.DataOptions(payload_type=payload_type, max_payload_bytes=100)
    if good:
        check_payload(payload, options, field="data")
        return
    with pytest.raises(InvalidField) as raised:
        check_payload(payload, options, field="data")
    assert raised.value.field == "data"
