"""What is to be published: defaults are filled in, contradictions are named."""

from typing import Any

import pytest

from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2
from track_server.errors import InvalidField, InvalidOptions
from track_server.publishing.spec import BITS_PER_PIXEL, MAX_METADATA_DEPTH, Stream, complete

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


def test_metadata_as_deep_as_it_may_be_is_kept() -> None:
    metadata: dict[str, Any] = {"a": [1.5, None, "x", True]}
    for _ in range(MAX_METADATA_DEPTH - 2):
        metadata = {"a": metadata}
    asked = spec(tone=pb.ToneInput())
    asked.metadata.update(metadata)
    assert complete(asked, "PUB_1", None).metadata == asked.metadata
    asked.metadata.Clear()
    asked.metadata.update({"a": metadata})
    with pytest.raises(InvalidField, match="nested"):
        complete(asked, "PUB_1", None)
