"""What a message has at a path, and how large that is."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import Message

_STRUCT: Final = "google.protobuf.Struct"
_ANY_VALUE: Final = frozenset({"google.protobuf.Value", "google.protobuf.ListValue"})
"""Their fields are not what expressions see in them."""


def at(message: Message, steps: Sequence[str]) -> Any:
    """What the message has at the path, as far as it can be followed; None where it has nothing there."""
    value: Any = message
    for step in steps:
        if isinstance(value, Message):
            kind = value.DESCRIPTOR.full_name
            field = value.DESCRIPTOR.fields_by_name.get(step)
            if kind == _STRUCT:
                value = value.fields.get(step)  # type: ignore[attr-defined]
            elif kind in _ANY_VALUE or field is None:
                return value
            elif field.has_presence and not value.HasField(step):
                return None
            else:
                value = getattr(value, step)
        elif hasattr(value, "get"):
            value = value.get(step)
        else:
            return value
        if value is None:
            return None
    return value


def extent(value: Any) -> int:
    """About how many bytes it has; 0 for numbers, and for None."""
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return sum(extent(key) + extent(each) + 2 for key, each in value.items())
    if hasattr(value, "__iter__"):
        return sum(extent(each) + 2 for each in value)
    return 0
