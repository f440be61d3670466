"""What is wrong with an expression, where, and what may have been meant."""

import difflib
import re
from collections.abc import Iterable
from typing import Final

from google.protobuf import descriptor, descriptor_pool

from track.v1 import quality_alert_pb2, quality_pb2, track_pb2
from track_server.errors import InvalidExpression

# `ERROR: <input>:LINE:COLUMN: what is wrong`, then a picture of the place.
_FAULT: Final = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")
_FIELD: Final = re.compile(r"undefined field '([^']+)' not found in struct '([^']+)'")
_NAME: Final = re.compile(r"undeclared reference to '([^']+)'")
# The compiler says so where an enum has no such value; it points at the dot.
_VALUE: Final = re.compile(r"type\(\*error\*\)")
_BEFORE: Final = re.compile(r"(\w+)\s*$")
_AFTER: Final = re.compile(r"\.\s*(\w+)")

# Of CEL's standard library: https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions
_FUNCTIONS: Final = (
    *("all", "bool", "bytes", "contains", "double", "duration", "dyn", "endsWith", "exists", "exists_one", "filter"),
    *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds"),
    *("getMinutes", "getMonth", "getSeconds", "has", "int", "map", "matches", "size", "startsWith", "string"),
    *("timestamp", "type", "uint"),
)
# From this likeness on (difflib's ratio) a name is taken for a misspelt one.
_ALIKE: Final = 0.65


def located(text: str, source: str, variables: tuple[str, ...], name: str, field: str) -> InvalidExpression:
    """The error of an expression that the compiler refuses with ``text``; metadata `line` and `column` count from 1,
    and `suggestion` has the nearest name where one is near. ``name``: what the expression is called."""
    fault = _FAULT.search(text)
    if fault is None:
        return InvalidExpression(f"the {name} does not compile", field=field)
    line, column, what = int(fault[1]), int(fault[2]), fault[3].removesuffix(" [INVALID_ARGUMENT]")
    metadata = {"line": str(line), "column": str(column)}
    message = f"the {name} does not compile: line {line}, column {column}: {what}"
    suggestion = _suggestion(what, _rows(source, line), column, variables)
    if suggestion:
        metadata["suggestion"] = suggestion
        message += f"; did you mean `{suggestion}`?"
    return InvalidExpression(message, field=field, metadata=metadata)


def _rows(source: str, line: int) -> str:
    rows = source.split("\n")
    return rows[line - 1] if line <= len(rows) else ""


def _suggestion(what: str, row: str, column: int, variables: tuple[str, ...]) -> str:
    if found := _FIELD.search(what):
        return _nearest(found[1], _fields(found[2]))
    if found := _NAME.search(what):
        missing, _, rest = found[1].partition(".")
        # Types begin with a capital letter, variables and functions do not.
        known = _enums() if missing[:1].isupper() else (*variables, *_FUNCTIONS)
        nearest = _value_named(missing) or _nearest(missing, known)
        return f"{nearest}.{rest}" if nearest and rest else nearest
    if _VALUE.search(what):
        before, after = _BEFORE.search(row[: column - 1]), _AFTER.match(row[column - 1 :])
        if before and after and (enum := _enums().get(before[1])):
            values = [value.name for value in enum.values]
            nearest = _nearest(after[1], values) or _ending(after[1], values)
            return nearest and f"{enum.name}.{nearest}"
    return ""


def _nearest(name: str, candidates: Iterable[str]) -> str:
    """The candidate most like the name, whatever its case and underscores; empty where none is like it."""
    spelt = {_squeezed(candidate): candidate for candidate in candidates}
    found = difflib.get_close_matches(_squeezed(name), spelt, n=1, cutoff=_ALIKE)
    return spelt[found[0]] if found else ""


def _squeezed(name: str) -> str:
    return name.replace("_", "").lower()


def _fields(message: str) -> list[str]:
    try:
        return list(descriptor_pool.Default().FindMessageTypeByName(message).fields_by_name)
    except KeyError:
        return []


def _enums() -> dict[str, descriptor.EnumDescriptor]:
    """Those that a track, a participant, or their quality has."""
    return {
        name: found
        for file in (track_pb2, quality_pb2, quality_alert_pb2)
        for name, found in file.DESCRIPTOR.enum_types_by_name.items()
    }


def _value_named(name: str) -> str:
    """The value of an enum that was named without it: `TRACK_SOURCE_CAMERA`, or `CAMERA`."""
    for enum in _enums().values():
        if found := _ending(name, [value.name for value in enum.values]):
            return f"{enum.name}.{found}"
    return ""


def _ending(name: str, values: Iterable[str]) -> str:
    return next((value for value in values if value == name.upper() or value.endswith(f"_{name.upper()}")), "")
