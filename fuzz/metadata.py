"""Metadata of tracks and its schemas: what callers send, and what clients write into their attributes."""

import json
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import orjson
from google.protobuf import struct_pb2

from fuzz.target import Finding, Target, by_choice, chosen, presentable
from track.v1.metadata_pb2 import MetadataSchema
from track_server.config.limits import LimitSettings
from track_server.errors import InvalidExpression, TrackError
from track_server.metadata import attributes, checker, content
from track_server.metadata.schemas import Schemas

_LIMITS: Final = LimitSettings.model_construct()
_SCHEMAS: Final = (
    {"type": "object", "required": ["role"], "properties": {"role": {"enum": ["stage", "hall"]}}},
    {"$defs": {"a": {"maxLength": 3}}, "additionalProperties": {"$ref": "#/$defs/a"}},
    {"patternProperties": {"^(a+)+$": {"type": "number", "multipleOf": 0.5}}, "unevaluatedProperties": False},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "https://example.org/other.json"},
    {"anyOf": [{"const": 1}, {"prefixItems": [True, {"$dynamicRef": "#x"}]}], "$dynamicAnchor": "x"},
)
_METADATA: Final = (
    {"role": "stage", "tags": ["a", {"deep": None}], "rank": 2.5, "on": True},
    {"lk.a": 1},
    {"a": {"b": {"c": {"d": [[[1e300]]]}}}},
    {"\u202e": "\U0001f468\u200d\U0001f469", "n": 2**53 + 1},
)


class _Checker:
    """Answers as the process does, but in this one, and without trying the schema on anything: it may take any time."""

    async def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        try:
            checker.compiled(orjson.loads(question["schema"]))
        except ValueError as error:
            return {"schema": checker.fault_of(error)}
        return {}


def _written(data: bytes) -> None:
    """The attribute, as a client wrote it."""
    metadata = content.parsed(data.decode("utf-8", "replace"))
    if metadata is None or _refused(metadata):
        return
    text = content.text_of(metadata)
    again = content.parsed(text)
    if again is None or content.text_of(again) != text:
        raise Finding(f"{text!r} is not read as it was written")
    if content.text_of(content.merged(metadata, struct_pb2.Struct())) != text:
        raise Finding(f"an empty patch changes {text!r}")
    desired = {"TR_a": text}
    changed = attributes.changes(desired, {"name": "x"})
    if attributes.changes(desired, {"name": "x"} | changed):
        raise Finding("what is published is published again")


def _sent(data: bytes) -> None:
    """A Struct, as a caller sends it."""
    metadata = struct_pb2.Struct()
    try:
        metadata.ParseFromString(data)
    except Exception:  # noqa: BLE001  whatever protobuf says of it: it is not taken
        return
    if not _refused(metadata):
        content.text_of(content.merged(metadata, metadata))


def _refused(metadata: struct_pb2.Struct) -> bool:
    try:
        content.check(metadata, _LIMITS, "replace")
    except TrackError as error:
        presentable(error)
        return True
    if any(key.startswith(content.RESERVED) for key in metadata.fields):
        raise Finding("a reserved key is taken")
    return False


def _schema(data: bytes) -> None:
    """A schema, as a caller sets it."""
    schemas = Schemas(_nobody(), _Checker(), _LIMITS)  # type: ignore[arg-type]  # of the checker its `ask` alone is used
    text = data.decode("utf-8", "replace")
    asked = MetadataSchema(name="n", json_schema=text)
    try:
        _finish(schemas.set(asked, "", validate_only=True))
    except InvalidExpression:
        raise
    except TrackError as error:
        presentable(error)
        return
    if not isinstance(json.loads(text), dict | bool):
        raise Finding(f"{text!r} is a schema")


def _nobody() -> Any:
    """The store, which is not asked where a schema is only looked at."""
    return None


def _finish(work: Coroutine[Any, Any, object]) -> None:
    """Runs what waits for nothing, without a loop."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise Finding("looking at a schema waits for something")


_WAYS: Final = (_written, _sent, _schema)


def _seeds() -> Iterator[bytes]:
    for metadata in _METADATA:
        yield chosen(0, json.dumps(metadata).encode())
        yield chosen(1, content.struct_of(metadata).SerializeToString())
    for schema in _SCHEMAS:
        yield chosen(2, json.dumps(schema).encode())
    yield chosen(2, b"true")
    yield chosen(2, b'{"$ref": "#"}')
    yield chosen(0, b"[" * 2000)
    yield chosen(0, b'{"a":' * 900 + b"1" + b"}" * 900)


def target() -> Target:
    """See the module."""
    words = (
        *("type", "properties", "required", "enum", "pattern", "patternProperties", "additionalProperties", "items"),
        *("$ref", "$defs", "$schema", "$id", "$anchor", "$dynamicRef", "allOf", "if", "then", "contains", "format"),
        *('"object"', '"#/$defs/a"', "1e308", "\\ud800", "lk.", "track.", "null"),
    )
    return Target(by_choice(_WAYS), _seeds, [word.encode() for word in words])
