"""Filters: typed, with positions, and never true by accident."""

import pytest

from track.v1 import publication_pb2, track_pb2
from track_server.cel import compile_filter
from track_server.errors import InvalidExpression

CAMERA = track_pb2.Track(
    sid="TR_1", type=track_pb2.TRACK_TYPE_VIDEO, source=track_pb2.TRACK_SOURCE_CAMERA, width=1280, name="cam"
)
CAMERA.metadata["role"] = "presenter"


@pytest.mark.parametrize(
    ("source", "matches"),
    [
        ("track.source == TrackSource.TRACK_SOURCE_CAMERA", True),
        ('track.source == TrackSource.TRACK_SOURCE_CAMERA && track.metadata.role == "presenter"', True),
        ('track.metadata.role == "viewer"', False),
        ("track.width > 640", True),
        ('track.name.startsWith("c") && !track.muted', True),
        ('track.metadata.missing == "x"', False),
        ("track.metadata.missing == 1 || track.width > 640", True),
        ('!(track.metadata.missing == "x")', False),
        ("track.type == 2", True),
    ],
)
def test_a_filter_matches_what_it_says_and_fails_to_false(source: str, matches: bool) -> None:
    predicate = compile_filter(source, "track")
    assert predicate is not None
    assert predicate(CAMERA) is matches


def test_the_empty_filter_is_none() -> None:
    assert compile_filter("  ", "track") is None


def test_publications_have_their_own_variable() -> None:
    predicate = compile_filter("publication.state == PublicationState.PUBLICATION_STATE_LIVE", "publication")
    assert predicate is not None
    assert predicate(publication_pb2.Publication(state=publication_pb2.PUBLICATION_STATE_LIVE))


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("track.sorce == 1", "1", "6"),
        ("track.sid ==", "1", "13"),
        ("track.sid == 1", "1", "11"),
        ("nope", "1", "1"),
        ("track.muted &&\n track.sid == 1", "2", "12"),
        ("1 + 1", "1", "1"),
        ("publication.state", "1", "12"),
    ],
)
def test_a_bad_filter_tells_where(source: str, line: str, column: str) -> None:
    with pytest.raises(InvalidExpression) as raised:
        compile_filter(source, "track")
    assert (raised.value.metadata["line"], raised.value.metadata["column"]) == (line, column)
    assert raised.value.field == "filter"
