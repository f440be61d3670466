"""Consistency tokens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track_server.errors import InvalidConsistencyToken
from track_server.private_tracks.consistency import revision_of, token_of


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_a_token_names_its_revision_in_its_room(room: str, revision: int) -> None:
    assert revision_of(token_of(room, revision), room) == revision


def test_the_empty_token_demands_nothing() -> None:
    assert revision_of("", "demo") == 0


def test_a_token_of_another_room_is_none() -> None:
    with pytest.raises(InvalidConsistencyToken):
        revision_of(token_of("demo", 7), "other")


@given(st.integers(1, 2**64 - 1), st.integers(0, 14), st.integers(1, 255))
def test_one_byte_changed_is_noticed(revision: int, place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(token_of("demo", revision)))
    raw[place] ^= change
    with pytest.raises(InvalidConsistencyToken):
        revision_of(base64.urlsafe_b64encode(raw).decode(), "demo")


@given(st.text(min_size=1, max_size=128))
def test_any_text_is_refused_in_good_order(text: str) -> None:
    with pytest.raises(InvalidConsistencyToken):
        revision_of(text, "demo")
