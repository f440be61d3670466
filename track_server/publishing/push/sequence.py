"""The frames of a publication in their order: each held against the declared format and the one before. Pure."""

from dataclasses import dataclass
from typing import Final

from track.v1.publication_pb2 import PublicationSpec
from track.v1.push_pb2 import PushMediaRequest
from track_server.errors import InvalidField, LimitExceeded
from track_server.publishing.push.bitstream import FIELD as ENCODED_DATA
from track_server.publishing.push.bitstream import read_access_unit
from track_server.publishing.spec import check_payload

_FIELD_OF: Final = {
    "raw_video": "raw_video",
    "encoded_video": "encoded_video",
    "pcm": "pcm",
    "data": "data",
}
_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 1.0
_ROUNDING_US: Final = 1000
"""So much earlier may sound begin than the sound before has ended: callers round."""
_SAMPLE_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was found right. ``timestamp_us``: None for data. ``key``: it can be used without those before."""

    data: bytes
    timestamp_us: int | None
    key: bool


class Sequence:
    """Holds the frames of a publication against its completed ``spec``, over all streams that push them.

    ``max_frame_bytes``: the most that a frame may have.
    """

    def __init__(self, spec: PublicationSpec, max_frame_bytes: int) -> None:
        self._spec = spec
        self._format = spec.push.WhichOneof("format") or ""
        self._most = max_frame_bytes
        self._begun = False
        self._end_us = -1
        """Where the last sound ended."""
        self.last_timestamp_us: int | None = None
        """Of the last frame that was right."""

    def follow(self, spec: PublicationSpec) -> None:
        """The publication was changed; its format never is."""
        self._spec = spec

    def check(self, request: PushMediaRequest) -> Frame:
        """The frame of a message that is not the first of its stream.

        Raises InvalidField with the field at fault, and LimitExceeded where it is larger than frames may be.
        """
        if request.room or request.publication_id:
            raise InvalidField(
                "the first message alone names the publication", field="room" if request.room else "publication_id"
            )
        kind = request.WhichOneof("frame")
        if kind is None:
            raise InvalidField("the message has no frame", field="frame")
        if kind != self._format:
            declared = _FIELD_OF.get(self._format, "another format")
            raise InvalidField(f"the publication takes frames of {declared}, not of {kind}", field=kind)
        match kind:
            case "raw_video":
                return self._raw(request)
            case "encoded_video":
                return self._encoded(request)
            case "pcm":
                return self._sound(request)
            case _:
                return self._payload(request)

    def _raw(self, request: PushMediaRequest) -> Frame:
        video = self._spec.video
        data, timestamp_us = request.raw_video.data, request.raw_video.timestamp_us
        self._bounded(data, "raw_video.data")
        size = video.width * video.height * 3 // 2
        if len(data) != size:
            raise InvalidField(
                f"a picture of {video.width}x{video.height} pixels has {size} bytes, not {len(data)}",
                field="raw_video.data",
            )
        return self._in_time(Frame(data, timestamp_us, key=True), "raw_video.timestamp_us")

    def _encoded(self, request: PushMediaRequest) -> Frame:
        encoded, video = request.encoded_video, self._spec.video
        data = encoded.data
        self._bounded(data, ENCODED_DATA)
        unit = read_access_unit(video.codec, data)
        if unit.keyframe != encoded.keyframe:
            said, found = ("a keyframe", "is none") if encoded.keyframe else ("no keyframe", "is one")
            raise InvalidField(f"the frame is said to be {said}, but {found}", field="encoded_video.keyframe")
        if not self._begun and not unit.keyframe:
            raise InvalidField("the first frame must be a keyframe", field="encoded_video.keyframe")
        if unit.size is not None and unit.size != (video.width, video.height):
            width, height = unit.size
            raise InvalidField(
                f"the frame has {width}x{height} pixels, the publication {video.width}x{video.height}",
                field=ENCODED_DATA,
            )
        return self._in_time(Frame(data, encoded.timestamp_us, unit.keyframe), "encoded_video.timestamp_us")

    def _sound(self, request: PushMediaRequest) -> Frame:
        pcm, data = self._spec.push.pcm, request.pcm.data
        self._bounded(data, "pcm.data")
        step = _SAMPLE_BYTES * pcm.channels
        if len(data) % step:
            raise InvalidField(f"samples of {pcm.channels} channels have {step} bytes", field="pcm.data")
        length_s = len(data) / step / pcm.sample_rate_hz
        if not _SHORTEST_S <= length_s <= _LONGEST_S:
            raise InvalidField(
                f"a frame has 1 ms to 1 s of sound, not {length_s * 1000:.6g} ms",
                field="pcm.data",
            )
        timestamp_us = request.pcm.timestamp_us
        if timestamp_us < self._end_us - _ROUNDING_US:
            raise InvalidField(
                f"sound must not begin before the end of the sound before, {self._end_us} us",
                field="pcm.timestamp_us",
            )
        frame = self._in_time(Frame(data, timestamp_us, key=True), "pcm.timestamp_us")
        self._end_us = timestamp_us + round(length_s * 1e6)
        return frame

    def _payload(self, request: PushMediaRequest) -> Frame:
        payload = request.data.payload
        self._bounded(payload, "data.payload")
        check_payload(payload, self._spec.data_options, field="data.payload")
        return Frame(payload, None, key=True)

    def _bounded(self, data: bytes, field: str) -> None:
        if not data:
            raise InvalidField("a frame must not be empty", field=field)
        if len(data) > self._most:
            raise LimitExceeded("max_frame_bytes", self._most, "frame", field=field)

    def _in_time(self, frame: Frame, field: str) -> Frame:
        last, given = self.last_timestamp_us, frame.timestamp_us
        if last is not None and given is not None and given <= last:
            raise InvalidField(f"the timestamp must be later than that of the frame before, {last} us", field=field)
        self.last_timestamp_us, self._begun = given, True
        return frame
