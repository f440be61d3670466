"""What the headers of access units tell, held against FFmpeg's encoders."""

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.encoded import HEIGHT, WIDTH, encoded
from track.v1.publication_pb2 import VIDEO_CODEC_H264, VIDEO_CODEC_VP8
from track_server.errors import InvalidField
from track_server.publishing.push.bitstream import read_access_unit

CODECS = {"vp8": VIDEO_CODEC_VP8, "h264": VIDEO_CODEC_H264}


@pytest.mark.parametrize("codec", CODECS)
def test_keyframes_and_their_size_are_told(codec: str) -> None:
    units = [read_access_unit(CODECS[codec], data) for data in encoded(codec, 12, keyframe_every=5)]
    assert [unit.keyframe for unit in units] == [number % 5 == 0 for number in range(12)]
    assert {unit.size for unit in units if unit.keyframe} == {(WIDTH, HEIGHT)}


@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720), (16, 16), (1920, 1080)])
def test_the_size_of_h264_is_told_whatever_the_profile(profile: str, width: int, height: int) -> None:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": profile}
    context.framerate = Fraction(30)
    frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), format="yuv420p")
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    unit = read_access_unit(VIDEO_CODEC_H264, data)
    assert (unit.keyframe, unit.size) == (True, (width, height))


def test_b_frames_are_refused() -> None:
    units = encoded(
        "h264", 12, options={"profile": "main", "tune": "", "bf": "3", "preset": "medium", "b_strategy": "0"}
    )
    with pytest.raises(InvalidField, match="B-frame"):
        _ = [read_access_unit(VIDEO_CODEC_H264, data) for data in units]


def test_a_keyframe_without_parameter_sets_is_refused() -> None:
    data = encoded("h264", 1)[0]
    start = data.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")[1:]
    alone = b"".join(b"\x00\x00\x00\x01" + unit for unit in start if unit[0] & 0x1F == 5)
    with pytest.raises(InvalidField, match="SPS and PPS"):
        read_access_unit(VIDEO_CODEC_H264, alone)


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=64) | st.binary(max_size=40).map(lambda tail: b"\x00\x00\x00\x01\x67" + tail))
def test_any_bytes_are_told_or_refused(codec: str, data: bytes) -> None:
    with contextlib.suppress(InvalidField):
        read_access_unit(CODECS[codec], data)


@pytest.mark.parametrize("codec", CODECS)
@given(at=st.integers(0, 60), bit=st.integers(0, 7))
def test_a_damaged_header_is_told_or_refused(codec: str, at: int, bit: int) -> None:
    data = bytearray(FIRST[codec])
    data[at % len(data)] ^= 1 << bit
    with contextlib.suppress(InvalidField):
        read_access_unit(CODECS[codec], bytes(data))


FIRST = {codec: encoded(codec, 1)[0] for codec in CODECS}
