"""The claim that narrows a token to one operation: it comes back as it went, and nothing else is understood."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1.access_pb2 import TrackOperation
from track.v1.publication_pb2 import VideoCodec
from track.v1.track_pb2 import TrackSource
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.operation import ATTRIBUTE, CLAIM, claim_of, narrowed, narrowing, read_claim

OPERATIONS = [
    TrackOperation.TRACK_OPERATION_PUBLISH,
    TrackOperation.TRACK_OPERATION_SUBSCRIBE,
    TrackOperation.TRACK_OPERATION_OBSERVE,
]
_INTEGERS = st.none() | st.integers(1, 2**31 - 1)
BOUNDS = st.builds(
    Bounds,
    max_bitrate_bps=_INTEGERS,
    max_width=_INTEGERS,
    max_height=_INTEGERS,
    max_frames_per_second=st.none() | st.floats(0.001, 1e6),
    sources=st.none() | st.frozensets(st.sampled_from(TrackSource.values()[1:]), min_size=1),
    codecs=st.none() | st.frozensets(st.sampled_from(VideoCodec.values()[1:]), min_size=1),
    max_tracks=_INTEGERS,
)


@given(operation=st.sampled_from(OPERATIONS), bounds=BOUNDS)
def test_what_is_claimed_is_what_is_read(operation: "TrackOperation.ValueType", bounds: Bounds) -> None:
    assert read_claim(json.loads(json.dumps(claim_of(operation, bounds)))) == (operation, bounds)


@given(operation=st.sampled_from(OPERATIONS), bounds=BOUNDS)
def test_it_is_read_from_the_attribute_where_the_claim_was_lost(
    operation: "TrackOperation.ValueType", bounds: Bounds
) -> None:
    claims = json.loads(json.dumps(narrowing(operation, bounds)))
    assert narrowed(claims) == (operation, bounds)
    del claims[CLAIM]
    assert narrowed(claims) == (operation, bounds)


@pytest.mark.parametrize("attributes", [None, {}, [], "track.operation", {"operation": "publish"}])
def test_without_claim_and_attribute_nothing_is_narrowed(attributes: object) -> None:
    assert narrowed({"attributes": attributes}) == (TrackOperation.TRACK_OPERATION_UNSPECIFIED, UNBOUNDED)
    assert narrowed({}) == (TrackOperation.TRACK_OPERATION_UNSPECIFIED, UNBOUNDED)


@pytest.mark.parametrize("value", [None, 1, "", "publish", "{}", '{"operation": "moderate"}', "[" * 8000, {}])
def test_an_attribute_that_is_not_understood_makes_the_token_void(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the caller tells it as one thing
        narrowed({"attributes": {ATTRIBUTE: value}})


def test_the_claim_is_in_words() -> None:
    bounds = Bounds(max_bitrate_bps=500_000, sources=frozenset({TrackSource.TRACK_SOURCE_CAMERA}))
    assert claim_of(TrackOperation.TRACK_OPERATION_PUBLISH, bounds) == {
        "operation": "publish",
        "bounds": {"max_bitrate_bps": 500_000, "sources": ["TRACK_SOURCE_CAMERA"]},
    }
    assert claim_of(TrackOperation.TRACK_OPERATION_OBSERVE) == {"operation": "observe"}
    assert read_claim({"operation": "observe"}) == (TrackOperation.TRACK_OPERATION_OBSERVE, UNBOUNDED)


@pytest.mark.parametrize(
    "claim",
    [
        None,
        "publish",
        [],
        {},
        {"operation": "moderate"},
        {"operation": None},
        {"operation": ["publish"]},
        {"operation": 1},
        {"bounds": {}},
        {"operation": "publish", "scope": "x"},
        {"operation": "publish", "bounds": None},
        {"operation": "publish", "bounds": []},
        {"operation": "publish", "bounds": {"max_area": 1}},
        {"operation": "publish", "bounds": {"max_width": None}},
        {"operation": "publish", "bounds": {"max_width": -1}},
        {"operation": "publish", "bounds": {"max_width": "wide"}},
        {"operation": "publish", "bounds": {"max_width": 2**31}},
        {"operation": "publish", "bounds": {"max_frames_per_second": "NaN"}},
        {"operation": "publish", "bounds": {"max_frames_per_second": "Infinity"}},
        {"operation": "publish", "bounds": {"codecs": ["VIDEO_CODEC_NEW"]}},
        {"operation": "publish", "bounds": {"codecs": "VIDEO_CODEC_VP8"}},
        {"operation": "publish", "bounds": {"codecs": [[]]}},
        {"operation": "publish", "bounds": {1: 2}},
    ],
)
def test_what_is_not_understood_is_refused_rather_than_passed_over(claim: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_claim(claim)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from([*Bounds.__dataclass_fields__, "maxWidth", "x"])


@given(bounds=st.dictionaries(_FIELDS, _JSON, max_size=4))
def test_any_bounds_are_read_or_refused(bounds: dict[str, Any]) -> None:
    try:
        _, read = read_claim({"operation": "publish", "bounds": bounds})
    except ValueError:
        return
    # What was said and is not nothing is a bound.
    said = {name for name, value in bounds.items() if value not in (0, [], "0", "0.0")}
    assert "x" not in said
    assert len(claim_of(TrackOperation.TRACK_OPERATION_PUBLISH, read).get("bounds", {})) >= len(said - {"maxWidth"})
