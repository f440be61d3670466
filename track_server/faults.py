"""What is wrong with a message that breaks the contract's `buf.validate` rules, in words for the caller. Pure."""

from typing import Final

from protovalidate import Violation

# Of what protovalidate says, what does not tell a caller what to do.
_WORDS: Final = {
    "must be at least 1 bytes": "must not be empty",
    "must contain at least 1 item(s)": "must not be empty",
    "must not be in list [0]": "must be set",
    "must not be in list [3]": "must not be TRACK_TYPE_DATA",
    "must be in list [1, 2, 3]": "must be one of LOW, MEDIUM and HIGH",
    "value is required": "must be set",
    "exactly one field is required in oneof": "one of its fields must be set",
    "value must be one of the defined enum values": "must be one of the values that its enum defines",
    "repeated value must contain unique items": "must not have the same value twice",
}


def fault_of(violation: Violation) -> str:
    """What is wrong with the field, to follow its name."""
    fault = violation.proto.message
    return _WORDS.get(fault, fault)


def path_of(violation: Violation) -> str:
    """The field at fault, as in `tracks[2].track_sid` or `attributes["key"]`.

    Of a rule of the whole message, what the rule's id ends with: a field, or `target` for those that name one.
    """
    proto = violation.proto
    if proto.field is None or not proto.field.elements:
        return proto.rule_id.rpartition(".")[2]
    path = ""
    for element in proto.field.elements:
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            key = f'"{subscript.value}"' if isinstance(subscript.value, str) else subscript.value
            path += f"[{key}]"
    return path
