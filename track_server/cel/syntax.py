"""A compiled expression's syntax, read from how it is serialised.

cel-expr-python gives a `cel.expr.CheckedExpr` and brings no classes for it, so fields are read by their numbers:
https://github.com/google/cel-spec/blob/master/proto/cel/expr/checked.proto and syntax.proto.
"""

from collections.abc import Iterator
from typing import Final

from google.protobuf import any_pb2, empty_pb2, unknown_fields

Fields = list[tuple[int, bytes]]
"""Number and contents of a message's fields that are messages or texts."""

_CHECKED_EXPR: Final = 4
# The kinds of an Expr.
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _FOLD = 3, 4, 5, 6, 7, 8, 9
_CONST_STRING: Final = 6
_IDENT_NAME: Final = 1
_SELECT_OPERAND, _SELECT_FIELD = 1, 2
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENT = 1, 2, 3
_LIST_ELEMENT: Final = 1
_STRUCT_ENTRY: Final = 2
_ENTRY_KEY, _ENTRY_VALUE = 3, 4
# A comprehension: a variable (or two) goes through a range, and another gathers what is found.
_FOLD_VARIABLE, _FOLD_RANGE, _FOLD_GATHERED, _FOLD_START, _FOLD_VARIABLE_2 = 1, 2, 3, 4, 8
_FOLD_INSIDE: Final = (5, 6, 7)
_INDEX: Final = b"_[_]"


class Syntax:
    """Of one compiled expression."""

    def __init__(self, serialized: bytes) -> None:
        packed = any_pb2.Any.FromString(serialized)
        self._type_url = packed.type_url
        whole = _fields(packed.value)
        self._around = b"".join(_field(number, data) for number, data in whole if number != _CHECKED_EXPR)
        self.root: Final = _first(whole, _CHECKED_EXPR)

    def alone(self, expression: bytes) -> bytes:
        """That part of it as a compiled expression of its own, serialised."""
        body = self._around + _field(_CHECKED_EXPR, expression)
        return any_pb2.Any(type_url=self._type_url, value=body).SerializeToString()


Path = tuple[str, ...]
"""A variable, and the names of fields and keys from there on."""


def call_of(expression: bytes) -> tuple[str, list[bytes]]:
    """The function that the expression calls, an operator by its name in CEL, and its arguments.

    ("", []) where it calls none, or one of an object's.
    """
    call = _first(_fields(expression), _CALL)
    fields = _fields(call)
    if not call or any(number == _CALL_TARGET for number, _ in fields):
        return "", []
    return _first(fields, _CALL_FUNCTION).decode(), [data for number, data in fields if number == _CALL_ARGUMENT]


def paths(expression: bytes, variables: frozenset[str]) -> frozenset[Path]:
    """What it reads of the variables, as far as names tell it: ("track", "metadata", "role"); ("track",): all of it."""
    return frozenset(_paths(expression, variables))


def loops(expression: bytes) -> bool:
    """Whether a macro in it goes through elements."""
    kind, fields = _kind(expression)
    if kind == _FOLD:
        return True
    if kind == _SELECT:
        return loops(_first(fields, _SELECT_OPERAND))
    if kind == _CALL:
        return any(loops(data) for number, data in fields if number in (_CALL_TARGET, _CALL_ARGUMENT))
    if kind == _LIST:
        return any(loops(data) for number, data in fields if number == _LIST_ELEMENT)
    entries = [_fields(data) for number, data in fields if kind == _STRUCT and number == _STRUCT_ENTRY]
    return any(loops(data) for entry in entries for part, data in entry if part in (_ENTRY_KEY, _ENTRY_VALUE))


def _paths(expression: bytes, variables: frozenset[str]) -> Iterator[Path]:
    steps: list[str] = []
    inner = expression
    while True:
        kind, fields = _kind(inner)
        if kind == _SELECT:
            steps.append(_first(fields, _SELECT_FIELD).decode())
            inner = _first(fields, _SELECT_OPERAND)
        elif kind == _CALL and (key := _key(fields)) is not None:
            steps.append(key)
            inner = next(data for number, data in fields if number == _CALL_ARGUMENT)
        else:
            break
    if kind == _IDENT:
        name = _first(fields, _IDENT_NAME).decode()
        # With a dot before it, a name is not one that a macro gave.
        if name.removeprefix(".") in variables:
            yield (name.removeprefix("."), *reversed(steps))
    elif kind == _FOLD:
        given = {_first(fields, number).decode() for number in (_FOLD_VARIABLE, _FOLD_VARIABLE_2, _FOLD_GATHERED)}
        for number, data in fields:
            if number in (_FOLD_RANGE, _FOLD_START):
                yield from _paths(data, variables)
            elif number in _FOLD_INSIDE:
                yield from _paths(data, variables - given)
    elif kind in (_SELECT, _CALL, _LIST):
        # The number of what is inside is that of the target, the arguments, or the elements.
        for number, data in fields:
            if number in (_CALL_TARGET, _CALL_ARGUMENT):
                yield from _paths(data, variables)
    elif kind == _STRUCT:
        for number, data in fields:
            if number == _STRUCT_ENTRY:
                for part, value in _fields(data):
                    if part in (_ENTRY_KEY, _ENTRY_VALUE):
                        yield from _paths(value, variables)


def _key(call: Fields) -> str | None:
    """The key of an index that is written out as a text: `x["key"]`."""
    arguments = [data for number, data in call if number == _CALL_ARGUMENT]
    if _first(call, _CALL_FUNCTION) != _INDEX or len(arguments) != 2:
        return None
    kind, fields = _kind(arguments[1])
    if kind != _CONST:
        return None
    return next((data.decode() for number, data in fields if number == _CONST_STRING), None)


def _kind(expression: bytes) -> tuple[int, Fields]:
    """Of an Expr, which it is, and its fields."""
    for number, data in _fields(expression):
        if number >= _CONST:
            return number, _fields(data)
    return 0, []


def _first(fields: Fields, number: int) -> bytes:
    return next((data for found, data in fields if found == number), b"")


def _fields(message: bytes) -> Fields:
    found = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(message))
    fields = (found[index] for index in range(len(found)))
    return [(field.field_number, field.data) for field in fields if isinstance(field.data, bytes)]


def _field(number: int, data: bytes) -> bytes:
    # Wire type 2, a length before the data: https://protobuf.dev/programming-guides/encoding/
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])
