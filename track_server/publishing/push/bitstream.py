"""Encoded access units as far as their headers tell: H.264 as Annex B (ITU-T H.264), VP8 (RFC 6386). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from track.v1.publication_pb2 import VideoCodec
from track_server.errors import InvalidField

FIELD: Final = "encoded_video.data"

_START: Final = b"\x00\x00\x01"
_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_VP8_START: Final = b"\x9d\x01\x2a"
# Profiles whose SPS says more before the size: chroma format, bit depths, scaling lists (7.3.2.1.1).
_HIGH_PROFILES: Final = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
# What is looked at of a frame, which is checked on the event loop: encoders put a dozen units before a picture's first
# slice, and cut a picture into some hundred slices at most. Two megabytes of start codes would take seconds.
_MOST_UNITS: Final = 256
_LONGEST_SPS: Final = 256
_LONGEST_SLICE_HEADER: Final = 16


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """``keyframe``: it can be decoded without those before. ``size``: width and height in pixels where it tells."""

    keyframe: bool
    size: tuple[int, int] | None = None


def read_access_unit(codec: "VideoCodec.ValueType", data: bytes) -> AccessUnit:
    """What the access unit is. Raises InvalidField where it is none of that codec."""
    if not data:
        raise InvalidField("an encoded frame must not be empty", field=FIELD)
    return _read_h264(data) if codec == VideoCodec.VIDEO_CODEC_H264 else _read_vp8(data)


def _read_vp8(data: bytes) -> AccessUnit:
    """Section 9.1: three bytes of frame tag, and in a keyframe a start code and the size."""
    if len(data) < 3:
        raise InvalidField("the frame is no VP8 frame: it is too short", field=FIELD)
    tag = int.from_bytes(data[:3], "little")
    version, first_partition = tag >> 1 & 0b111, tag >> 5
    if version > 3 or first_partition == 0 or first_partition > len(data):
        raise InvalidField("the frame is no VP8 frame: its header is wrong", field=FIELD)
    if tag & 1:
        return AccessUnit(keyframe=False)
    if len(data) < 10 or data[3:6] != _VP8_START:
        raise InvalidField("the frame is no VP8 frame: the start code of a keyframe is missing", field=FIELD)
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return AccessUnit(keyframe=True, size=(width, height))


def _read_h264(data: bytes) -> AccessUnit:
    if not data.startswith((_START, b"\x00" + _START)):
        if _is_avcc(data):
            raise InvalidField(
                "the frame is in AVCC format, with lengths before its NAL units; Annex B start codes are needed",
                field=FIELD,
            )
        raise InvalidField("the frame is no H.264 access unit in Annex B format: no start code", field=FIELD)
    found: set[int] = set()
    size: tuple[int, int] | None = None
    for unit_type, begin in _nal_units(data):
        found.add(unit_type)
        if unit_type == _SPS:
            size = _size_of(data[begin + 1 : begin + 1 + _LONGEST_SPS])
        if unit_type in (_SLICE, _IDR):
            if unit_type == _SLICE and _is_b_slice(data[begin + 1 : begin + 1 + _LONGEST_SLICE_HEADER]):
                raise InvalidField("the frame is a B-frame, which WebRTC does not decode", field=FIELD)
            break
    if _IDR not in found:
        if _SLICE not in found:
            raise InvalidField("the frame has no picture: no H.264 slice is in it", field=FIELD)
        return AccessUnit(keyframe=False)
    if _SPS not in found or _PPS not in found:
        raise InvalidField("a keyframe of H.264 must have SPS and PPS before it", field=FIELD)
    return AccessUnit(keyframe=True, size=size)


def _nal_units(data: bytes) -> Iterator[tuple[int, int]]:
    """Type and offset of the first _MOST_UNITS NAL units. Nothing behind a start code: the unit is left out."""
    at = data.find(_START)
    for _ in range(_MOST_UNITS):
        if at < 0 or at + 3 >= len(data):
            return
        yield data[at + 3] & 0x1F, at + 3
        at = data.find(_START, at + 3)


def _is_avcc(data: bytes) -> bool:
    """Whether lengths of 4 bytes lead from unit to unit to the end, over at most _MOST_UNITS."""
    at = 0
    for _ in range(_MOST_UNITS):
        if at + 4 >= len(data):
            break
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return at == len(data)


def _is_b_slice(header: bytes) -> bool:
    """`slice_type` of a slice header (7.3.3)."""
    bits = _Bits(header)
    try:
        bits.exp_golomb()
        return bits.exp_golomb() % 5 == 1
    except IndexError:
        return False


def _size_of(sps: bytes) -> tuple[int, int] | None:
    """Width and height of a sequence parameter set (7.3.2.1.1); None where it is not understood."""
    bits = _Bits(sps)
    try:
        profile = bits.read(8)
        bits.read(16)
        bits.exp_golomb()
        chroma = 1
        if profile in _HIGH_PROFILES:
            chroma = bits.exp_golomb()
            if chroma == 3:
                return None
            bits.exp_golomb(), bits.exp_golomb()
            if bits.read(1) << 1 | bits.read(1) & 1:
                return None  # scaling lists, or a transform that WebRTC's decoders do not take
        bits.exp_golomb()
        order = bits.exp_golomb()
        if order == 0:
            bits.exp_golomb()
        elif order == 1:
            return None
        bits.exp_golomb(), bits.read(1)
        width, rows = 16 * (bits.exp_golomb() + 1), bits.exp_golomb() + 1
        frames_only = bits.read(1)
        if not frames_only:
            bits.read(1)
        bits.read(1)
        height = 16 * rows * (2 - frames_only)
        if bits.read(1):
            left, right, top, bottom = (bits.exp_golomb() for _ in range(4))
            across, down = (2, 2) if chroma == 1 else (1, 1) if chroma == 0 else (2, 1)
            width -= across * (left + right)
            height -= down * (2 - frames_only) * (top + bottom)
    except IndexError:
        return None
    return width, height


class _Bits:
    """Reads bits of a NAL unit. Raises IndexError behind its end."""

    def __init__(self, data: bytes) -> None:
        # 7.4.1.1: a 3 after two zeros is there only so that no start code appears.
        self._data = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._at = 0

    def read(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def exp_golomb(self) -> int:
        """Unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while self.read(1) == 0:
            zeros += 1
            if zeros > 32:
                raise IndexError
        return (1 << zeros) - 1 + self.read(zeros)
