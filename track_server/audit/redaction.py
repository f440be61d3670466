"""Requests without what must not be kept: secrets and payloads. Pure."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from track_server.texts import cleaned, public_uri

MAX_JSON_BYTES: Final = 8192
"""The largest request that is kept whole, as JSON in UTF-8."""
MAX_DEPTH: Final = 24
"""The deepest: each object or list takes three of the 100 levels that protobuf decodes of an entry."""
# What is left of a text where the whole was too large.
_CUT_CHARS: Final = 256

_URLS: Final = frozenset({"uri", "url", "websocket_url", "endpoint"})
"""Names of fields with a URL, which may have credentials in it."""
_OPAQUE: Final = frozenset({"google.protobuf.Any"})
_STRUCTS: Final = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
_TIMES: Final = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"})


def redacted(request: Message) -> tuple[dict[str, Any], bool]:
    """The request's fields that are set, by their names in the contract, as JSON has them, but numbers as numbers; and
    whether there is more.

    Left out: fields declared `debug_redact`, fields of type bytes, tokens (by name and by form), and of URIs the user,
    the query and the fragment. Where the rest is larger than MAX_JSON_BYTES or deeper than MAX_DEPTH, only scalar
    fields are there, texts cut.
    """
    whole = _fields(request)
    if _size(whole) <= MAX_JSON_BYTES and _depth(whole) <= MAX_DEPTH:
        return whole, False
    return {name: _cut(value) for name, value in whole.items() if not isinstance(value, dict | list)}, True


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: _value(field, value) for field, value in message.ListFields() if not _hidden(field)}


@lru_cache(maxsize=1024)
def _hidden(field: FieldDescriptor) -> bool:
    if field.GetOptions().debug_redact or field.type == FieldDescriptor.TYPE_BYTES:
        return True
    if field.type == FieldDescriptor.TYPE_STRING:
        return field.name == "token" or field.name.endswith("_token")
    if field.message_type is None:
        return False
    if field.message_type.GetOptions().map_entry:
        return _hidden(field.message_type.fields_by_name["value"])
    return field.message_type.full_name in _OPAQUE


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {cleaned(str(key)): _single(inner, value[key]) for key in value}
    if field.is_repeated:
        return [_single(field, item) for item in value]
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _message(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if isinstance(value, str):
        return public_uri(value) if field.name in _URLS else cleaned(value)
    return _number(value)


def _message(message: Message) -> Any:
    name = message.DESCRIPTOR.full_name
    if name in _STRUCTS:
        return _free(message)
    if name in _TIMES:
        try:
            return json_format.MessageToDict(message)
        except (ValueError, json_format.Error):  # beyond the years 1 to 9999
            return ""
    return _fields(message)


def _free(message: Any) -> Any:
    """What a Struct, a Value or a ListValue holds."""
    match message.DESCRIPTOR.name:
        case "Struct":
            return {cleaned(key): _free(value) for key, value in message.fields.items()}
        case "ListValue":
            return [_free(value) for value in message.values]
    kind = message.WhichOneof("kind")
    value = None if kind in (None, "null_value") else getattr(message, kind)
    if isinstance(value, Message):
        return _free(value)
    return cleaned(value) if isinstance(value, str) else _number(value)


def _number(value: Any) -> Any:
    """As JSON can have it: infinity and what is no number as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _size(fields: Mapping[str, Any]) -> int:
    return len(json.dumps(fields, ensure_ascii=False).encode())


def _depth(value: Any) -> int:
    """How many objects and lists lie within one another."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _cut(value: Any) -> Any:
    return f"{value[:_CUT_CHARS]}..." if isinstance(value, str) and len(value) > _CUT_CHARS else value
