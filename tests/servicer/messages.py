"""Messages as nobody should send them: hypothesis strategies from the contract's descriptors."""

import math
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import reject
from hypothesis import strategies as st

from tests.servicer.contract import METHODS, request_of

TEXTS: Final = (
    "",
    " ",
    "\x00",
    "\n",
    "../../etc/passwd",
    "a" * 300,
    "ä" * 3000,
    "\u202egnp.exe",
    "\ufeff\u200b\u2028",
    "e\u0301" * 60,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\uffff\U0010ffff",
    "%s%n{0}${x}",
    "';--",
    '{"a":',
    "http://[::1",
    "file:///etc/passwd",
    "track.name ==",
    "[" * 500,
    "true",
    "track.metadata.a.b.c > 1.0 / 0.0",
    "000000000000-999999999999999999",
    "000000000000000000000000-1",
    '{"$ref": "#"}',
    '{"patternProperties": {"^(a+)+$": {"$dynamicRef": "#"}}, "additionalProperties": false}',
    '{"type": 1e999}',
    "https://user:word@127.0.0.1:0/#",
    "wss://[fe80::1%25eth0]/",
    "recordings/{track_id}/../{time}",
    "DTR_a",
)
"""What has been trouble somewhere: controls, unusual Unicode, paths, formats, halves of expressions."""
NUMBERS: Final = (0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
FLOATS: Final = (0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1.0, 1e30)

_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    # Open: any number may come.
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_SMALLEST_FLOAT32, _LARGEST_FLOAT32 = -3.4e38, 3.4e38
_DEPTH: Final = 4
# Objects within one another: around the 100 levels that protobuf decodes, of which each takes three.
_STRUCT_DEPTHS: Final = (0, 0, 1, 2, 16, 29, 30, 31, 32, 40)
_ALL: Final = 600
# From here on gRPC refuses by itself, without details.
_MOST_BYTES: Final = 4 << 20

texts: Final = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def requests(draw: st.DrawFn, rpc: str, room: str) -> Any:
    """A request of the RPC: something arbitrary, or a valid one about ``room`` in which some fields are arbitrary."""
    if draw(st.booleans()):
        request = draw(messages(METHODS[rpc].input_type))
    else:
        request = request_of(rpc, **({"room": room} if draw(st.booleans()) else {}))
        for _ in range(draw(st.integers(0, 3))):
            _disturb(draw, request, _DEPTH)
    if request.ByteSize() >= _MOST_BYTES:
        reject()
    return request


@st.composite
def messages(draw: st.DrawFn, descriptor: Any, depth: int = _DEPTH) -> Any:
    """An arbitrary message of that type."""
    message: Any = message_factory.GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Struct":
        draw_struct(draw, message)
        return message
    for field in descriptor.fields:
        if draw(st.integers(0, 2)):
            _fill(draw, message, field, depth)
    return message


def draw_struct(draw: st.DrawFn, message: Any) -> None:
    """Values of all kinds, at some depth."""
    inner = message
    for _ in range(draw(st.sampled_from(_STRUCT_DEPTHS))):
        inner = inner.fields[draw(texts)].struct_value
    value = inner.fields[draw(texts)]
    match draw(st.integers(0, 4)):
        case 0:
            value.number_value = draw(st.sampled_from(FLOATS))
        case 1:
            value.string_value = draw(texts)
        case 2:
            value.list_value.values.add().bool_value = True
        case 3:
            value.null_value = 0
        # Else a value without a kind, which JSON does not have.


def _disturb(draw: st.DrawFn, message: Any, depth: int) -> None:
    """Makes one field arbitrary, here or further down."""
    descriptor = message.DESCRIPTOR
    if not descriptor.fields:
        return
    field = draw(st.sampled_from(list(descriptor.fields)))
    inside = depth and field.message_type is not None and not field.is_repeated and message.HasField(field.name)
    if inside and draw(st.booleans()):
        _disturb(draw, getattr(message, field.name), depth - 1)
        return
    message.ClearField(field.name)
    _fill(draw, message, field, depth)


def _fill(draw: st.DrawFn, message: Any, field: Any, depth: int) -> None:
    if field.message_type is not None and depth == 0:
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(draw, getattr(message, field.name), field.message_type, depth)
    elif field.is_repeated:
        if draw(st.integers(0, 9)) == 0:
            count, values = _ALL, [_single(draw, field, depth)]
        else:
            count, values = 1, [_single(draw, field, depth) for _ in range(draw(st.integers(0, 3)))]
        try:
            getattr(message, field.name).extend(values * count)
        except DecodeError:
            # Copying decodes: a Struct may be too deep to be in something.
            reject()
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_single(draw, field, depth))
    else:
        setattr(message, field.name, _single(draw, field, depth))


def _fill_map(draw: st.DrawFn, entries: Any, entry: Any, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for _ in range(draw(st.integers(0, 2))):
        name, drawn = _single(draw, key, depth), _single(draw, value, depth)
        if isinstance(drawn, Message):
            entries[name].CopyFrom(drawn)
        else:
            entries[name] = drawn


def _single(draw: st.DrawFn, field: Any, depth: int) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return draw(messages(field.message_type, depth - 1))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return draw(st.booleans())
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return draw(st.sampled_from(FLOATS) | st.floats(width=32))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return draw(st.binary(max_size=64) if field.type == FieldDescriptor.TYPE_BYTES else texts)
    low, high = _INTEGERS[kind]
    return draw(st.sampled_from([number for number in NUMBERS if low <= number <= high]) | st.integers(low, high))
