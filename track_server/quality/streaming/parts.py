"""Messages of the quality stream out of pieces that are serialised already. Pure.

https://protobuf.dev/programming-guides/encoding/: a message is its fields one after the other, in any order, so that
elements of repeated fields can be put together as bytes.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from track.v1.quality_pb2 import StreamQualityReportsResponse

PART_BYTES: Final = 128 * 1024
"""A message is no larger, unless a single report is: so much gRPC keeps for a reader that has stopped."""

_FIELDS: Final = StreamQualityReportsResponse.DESCRIPTOR.fields_by_name
_LENGTH_DELIMITED: Final = 2


def _tag(name: str) -> bytes:
    return _varint(_FIELDS[name].number << 3 | _LENGTH_DELIMITED)


def _varint(number: int) -> bytes:
    text = bytearray()
    while number > 0x7F:
        text.append(number & 0x7F | 0x80)
        number >>= 7
    text.append(number)
    return bytes(text)


_REPORT: Final = _tag("reports")
_GONE: Final = _tag("gone_track_sids")
_ENDED: Final = _tag("ended_alerts")


def report_piece(encoded: bytes) -> bytes:
    """A report as an element of `reports`."""
    return _REPORT + _varint(len(encoded)) + encoded


def gone_piece(sid: str) -> bytes:
    """A SID as an element of `gone_track_sids`."""
    encoded = sid.encode()
    return _GONE + _varint(len(encoded)) + encoded


def ended_piece(encoded: bytes) -> bytes:
    """An alert as an element of `ended_alerts`."""
    return _ENDED + _varint(len(encoded)) + encoded


def put_together(
    head: StreamQualityReportsResponse, before: str, after: str, pieces: Iterable[bytes]
) -> tuple[bytes, ...]:
    """The messages with those pieces, one at least. ``head``: the fields that all have. ``before``, ``after``: the
    cursors of all but the last, and of the last."""
    packed = list(_packed(pieces))
    head.more, head.cursor = True, before
    first = head.SerializeToString()
    head.more, head.cursor = False, after
    last = head.SerializeToString()
    return tuple(b"".join((last if number == len(packed) - 1 else first, *part)) for number, part in enumerate(packed))


def _packed(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for piece in pieces:
        if part and size + len(piece) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(piece)
        size += len(piece)
    yield part
