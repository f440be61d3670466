"""What metadata may be, and how a merge patch changes it."""

import math
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from tests.tracks_metadata import struct
from track_server.config.limits import LimitSettings
from track_server.errors import InvalidField, LimitExceeded
from track_server.metadata import content

LIMITS = LimitSettings()

# Of -0 the sign is not kept.
numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
scalars = st.none() | st.booleans() | numbers | st.text('ab{}"\\é', max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
)
objects = st.dictionaries(st.text("abc", max_size=3), values, max_size=4)


# The examples of RFC 7396, appendix A, as far as the target is an object.
@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc_hold(before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]) -> None:
    assert content.merged(struct(before), struct(patch)) == struct(after)


def test_a_patch_of_nothing_makes_an_object() -> None:
    assert content.merged(None, struct({"a": {"b": None}, "c": None})) == struct({"a": {}})


@given(objects, objects)
def test_a_patch_twice_is_the_same_as_once(before: dict[str, Any], patch: dict[str, Any]) -> None:
    once = content.merged(struct(before), struct(patch))
    assert content.merged(once, struct(patch)) == once


@given(objects)
def test_the_text_is_the_object_and_one_text_for_it(value: dict[str, Any]) -> None:
    made = struct(value)
    text = content.text_of(made)
    assert content.parsed(text) == made
    assert content.text_of(struct(dict(reversed(value.items())))) == text
    assert json_format.Parse(text, struct_pb2.Struct()) == made


def test_whole_numbers_are_written_without_a_fraction() -> None:
    assert (
        content.text_of(struct({"a": 1, "b": 1.5, "c": -3, "d": 2**53}))
        == '{"a":1,"b":1.5,"c":-3,"d":9007199254740992}'
    )


@pytest.mark.parametrize("text", ["", "x", "[]", "1", "null", '{"a":NaN}', "{", '{"a":1', '"{}"', "[" * 100_000])
def test_what_is_no_json_object_is_none(text: str) -> None:
    assert content.parsed(text) is None


def nested(depth: int) -> dict[str, Any]:
    """``depth`` objects within one another."""
    value: dict[str, Any] = {"a": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "limit", "used"),
    [
        (nested(17), "max_metadata_depth", 17),
        ({"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}, "max_metadata_depth", 17),
        ({"a" * 257: 1}, "max_metadata_key_bytes", 257),
        ({"é" * 129: 1}, "max_metadata_key_bytes", 258),
        ({"a": {f"k{n}": n for n in range(512)}}, "max_metadata_keys", 513),
        ({"a": "x" * 16377}, "max_metadata_bytes", 16385),
        ({"a": "é" * 8189}, "max_metadata_bytes", 16386),
    ],
)
def test_beyond_a_limit_the_error_names_it_and_what_is_used_and_allowed(
    value: dict[str, Any], limit: str, used: int
) -> None:
    with pytest.raises(LimitExceeded) as raised:
        content.check(struct(value), LIMITS, "replace")
    assert raised.value.limit == limit
    allowed = getattr(LIMITS, limit)
    assert (raised.value.metadata["used"], raised.value.metadata["value"]) == (str(used), str(allowed))
    assert (raised.value.field, str(used) in raised.value.message, str(allowed) in raised.value.message) == (
        "replace",
        True,
        True,
    )


@pytest.mark.parametrize(
    "value",
    [nested(16), {"a" * 256: 1}, {"a": {f"k{n}": n for n in range(511)}}, {"a": "x" * 16376}, {}, {"a.lk.": 1}],
)
def test_within_the_limits_it_is_taken(value: dict[str, Any]) -> None:
    content.check(struct(value), LIMITS, "replace")


@pytest.mark.parametrize("key", ["lk.", "lk.agent.state", "track.", "track.metadata.TR_a"])
def test_reserved_keys_are_refused_at_the_top_alone(key: str) -> None:
    with pytest.raises(InvalidField, match="reserved"):
        content.check(struct({key: 1}), LIMITS, "replace")
    content.check(struct({"a": {key: 1}}), LIMITS, "replace")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    for value in ({"a": number}, {"a": [number]}, {"a": {"b": [{"c": number}]}}):
        made = struct_pb2.Struct()
        made.update(value)
        with pytest.raises(InvalidField, match="number"):
            content.check(made, LIMITS, "replace")


def test_values_that_are_not_set_and_nul_are_refused() -> None:
    unset = struct_pb2.Struct()
    unset.fields["a"].list_value.values.add()
    with pytest.raises(InvalidField, match="not set"):
        content.check(unset, LIMITS, "replace")
    for value in ({"a\0": 1}, {"a": "\0"}, {"a": [{"b": "x\0"}]}):
        with pytest.raises(InvalidField, match=r"U\+0000"):
            content.check(struct(value), LIMITS, "replace")
