"""Responses as they go over the wire, without copying what is large: a raw picture has megabytes."""

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from track.v1.pull_pb2 import PullMediaResponse

_LENGTH_DELIMITED: Final = 2
_EVENTS: Final = PullMediaResponse.DESCRIPTOR.fields_by_name
_DATA: Final = {"chunk": "data", "video": "data", "pcm": "data", "data": "payload"}
"""By the event's name: its field of bytes."""


@dataclass(frozen=True, slots=True)
class Response:
    """A serialised PullMediaResponse in two parts, to be put one after the other."""

    head: bytes
    data: bytes | bytearray | memoryview

    def __len__(self) -> int:
        """Of the whole, in bytes."""
        return len(self.head) + len(self.data)


def response(event: str, message: Message, data: bytes | bytearray | memoryview) -> Response:
    """A response with that event. ``message``: of the event, without the bytes that ``data`` has, in a view of bytes.

    Protocol Buffers encode a field of bytes and a message alike: tag, length, contents; fields may stand in any order.
    """
    field = _EVENTS[event]
    inner = message.SerializeToString() + _tag(message.DESCRIPTOR.fields_by_name[_DATA[event]].number)
    inner += _varint(len(data))
    return Response(_tag(field.number) + _varint(len(inner) + len(data)) + inner, data)


def _tag(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
