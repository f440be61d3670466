"""What metadata of a track may be, and how it is changed. Pure."""

import math
from typing import Any, Final, Protocol

import orjson
from google.protobuf import struct_pb2

from track_server.errors import InvalidField, LimitExceeded

RESERVED: Final = ("lk.", "track.")
"""Keys at the top that begin so are LiveKit's and this service's own."""
# Doubles up to here are whole numbers that any reader of JSON keeps as they are.
_WHOLE: Final = float(2**53)
_TRACK: Final = "track"
_UNSET: Final = "metadata has a value that is not set"


class ContentLimits(Protocol):
    """Settings of the limits: see LimitSettings."""

    max_metadata_bytes: int
    max_metadata_depth: int
    max_metadata_keys: int
    max_metadata_key_bytes: int


def check(metadata: struct_pb2.Struct, limits: ContentLimits, field: str) -> None:
    """Raises InvalidField where it is no JSON object that can be shown to anybody, LimitExceeded beyond a limit."""
    for key in metadata.fields:
        if key.startswith(RESERVED):
            raise InvalidField(f"keys that begin with {' or '.join(RESERVED)} are reserved: {key[:64]!r}", field=field)
    _check_parts(metadata, limits, field)
    size = len(text_of(metadata).encode())
    if size > limits.max_metadata_bytes:
        raise LimitExceeded("max_metadata_bytes", limits.max_metadata_bytes, _TRACK, field=field, used=size)


def _check_parts(metadata: struct_pb2.Struct, limits: ContentLimits, field: str) -> None:
    def most(limit: str, used: int) -> None:
        allowed = getattr(limits, limit)
        if used > allowed:
            raise LimitExceeded(limit, allowed, _TRACK, field=field, used=used)

    keys = deepest = longest = 0
    inside = [(struct_pb2.Value(struct_value=metadata), 0)]
    while inside:
        value, depth = inside.pop()
        deepest = max(deepest, depth)
        match value.WhichOneof("kind"):
            case "struct_value":
                for key, child in value.struct_value.fields.items():
                    keys += 1
                    longest = max(longest, len(key.encode()))
                    _check_text(key, field)
                    inside.append((child, depth + 1))
            case "list_value":
                inside += [(child, depth + 1) for child in value.list_value.values]
            case "number_value":
                if not math.isfinite(value.number_value):
                    raise InvalidField("metadata has a number that JSON does not have", field=field)
            case "string_value":
                _check_text(value.string_value, field)
            case None:
                raise InvalidField(_UNSET, field=field)
    most("max_metadata_depth", deepest)
    most("max_metadata_keys", keys)
    most("max_metadata_key_bytes", longest)


def check_patch(patch: struct_pb2.Struct, field: str) -> None:
    """Raises InvalidField where a value is not set: it would count as null, and remove what it names."""
    inside = [struct_pb2.Value(struct_value=patch)]
    while inside:
        value = inside.pop()
        match value.WhichOneof("kind"):
            case "struct_value":
                inside += value.struct_value.fields.values()
            case "list_value":
                inside += value.list_value.values
            case None:
                raise InvalidField(_UNSET, field=field)
            case _:
                pass


def _check_text(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidField("metadata has the character U+0000, which not every client can read", field=field)


def merged(metadata: struct_pb2.Struct | None, patch: struct_pb2.Struct) -> struct_pb2.Struct:
    """JSON Merge Patch, RFC 7396: null removes a key, objects are merged, everything else replaces."""
    return struct_of(_merged({} if metadata is None else plain(metadata), plain(patch)))


def _merged(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merged(result.get(key), value)
        else:
            result[key] = value
    return result


def text_of(metadata: struct_pb2.Struct) -> str:
    """As JSON: the same text for the same metadata, keys in order, without spaces."""
    return orjson.dumps(plain(metadata), option=orjson.OPT_SORT_KEYS).decode()


def parsed(text: str) -> struct_pb2.Struct | None:
    """The object that a text is as JSON; None where it is none."""
    try:
        value = orjson.loads(text)
        return struct_of(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def plain(metadata: struct_pb2.Struct) -> dict[str, Any]:
    """As Python's own values. Whole numbers are ints, as far as every reader of JSON keeps them."""
    return {key: _plain(value) for key, value in metadata.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return plain(value.struct_value)
        case "list_value":
            return [_plain(child) for child in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _WHOLE else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def struct_of(value: dict[str, Any]) -> struct_pb2.Struct:
    """From Python's own values."""
    result = struct_pb2.Struct()
    result.update(value)
    return result
