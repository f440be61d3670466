"""Proto JSON of clients, read as json_format reads it."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value

from track.control.v1.control_pb2 import Command, Reply, StateReport
from track_server.protojson import ProtoJsonReader

_NUMBERS: Final = [0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 1.0, 1.5, -0.0, 1e300]
_TEXTS: Final = ["1", "-1", "1.5", str(2**63)]
_WORDS: Final = [None, True, False, "NaN", "Infinity", "-Infinity"]
_NESTED: Final[list[Any]] = [[], {}, [None], [[]], [1], ["a"], [{}], {"a": 1}]
_NAMES: Final = ["COMMAND_STATUS_DONE", "CONSENT_ASKED", "QUALITY_LIMITATION_CPU", "DEVICE_KIND_CAMERA", "", "ü🎥"]
_TIMES: Final = ["2026-11-23T19:00:00.123456789Z", "2026-11-23T19:00:00+01:00", "2026-11-23", "99999-01-01T00:00:00Z"]
_SPANS: Final = ["1s", "-1.5s", "1.000000001s", "s", "9999999999999s"]
_VALUES: Final[list[Any]] = [*_NUMBERS, *_WORDS, *_NESTED, *_NAMES, *_TIMES, *_SPANS]


def _fields(descriptor: Any) -> Iterator[tuple[list[str | int], FieldDescriptor]]:
    """All fields, also within one another, and the ways to them: names in both forms, and 0 for the first of a list."""
    for field in descriptor.fields:
        step: list[str | int] = [field.json_name, 0] if field.is_repeated else [field.json_name]
        yield step, field
        yield [field.name], field
        if field.message_type is not None and not field.message_type.full_name.startswith("google."):
            yield from ((step + rest, inner) for rest, inner in _fields(field.message_type))


def _document(way: list[str | int], value: Any) -> str:
    """An object that has the value at the end of that way, and nothing else."""
    for step in reversed(way):
        value = [value] if isinstance(step, int) else {step: value}
    return json.dumps(value)


def _bytes(message: Message) -> bytes:
    """Of two messages with NaN these are equal, and the messages are not."""
    return message.SerializeToString(deterministic=True)


def _read(reader: ProtoJsonReader[Any], text: str) -> bytes | None:
    try:
        return _bytes(reader.read(text))
    except ValueError:
        return None


@pytest.mark.parametrize("message", [Reply, StateReport])
def test_every_field_is_read_as_json_format_reads_it_or_refused(message: type[Message]) -> None:
    reader = ProtoJsonReader(message)
    for way, field in _fields(message.DESCRIPTOR):
        # json_format takes a number in quotes for an enum's: here it is a name that is not known.
        for value in _VALUES if field.enum_type else _VALUES + _TEXTS:
            text = _document(way, value)
            try:
                expected = json_format.Parse(text, message(), ignore_unknown_fields=True)
            except (json_format.ParseError, ArithmeticError, ValueError, TypeError, AttributeError):
                assert _read(reader, text) is None, text
                continue
            assert _read(reader, json_format.MessageToJson(expected)) == _bytes(expected), text
            # json_format takes true for a number, too, and a text for an object without fields.
            assert _read(reader, text) in (_bytes(expected), None), text


def test_a_message_without_fields_is_there_all_the_same() -> None:
    assert ProtoJsonReader(Reply).read('{"result": {"capabilities": {}}}').result.HasField("capabilities")


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "1", "NaN", '"x"', '{"result": []}', '{"detail": "\\ud800"}', "[" * 7000, '{"a":' * 7000],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ProtoJsonReader(Reply).read(text)
    with pytest.raises(ValueError, match=r".*"):
        ProtoJsonReader(Reply).read(b"\xff" + text.encode())


@pytest.mark.parametrize("message", [Command, Struct, Value])
def test_a_type_that_cannot_be_read_is_told_before_anything_is_read(message: type[Message]) -> None:
    with pytest.raises(TypeError, match=r"."):
        ProtoJsonReader(message)
