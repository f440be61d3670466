"""Pages: every item once, in order, whatever comes and goes meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track_server.errors import InvalidPageToken
from track_server.paging import Order, Position, page_of


def place(item: tuple[str, int]) -> Position:
    return item


def walk(items: set[tuple[str, int]], size: int, order: Order) -> list[tuple[str, int]]:
    seen: list[tuple[str, int]] = []
    token = ""
    while True:
        page, token = page_of(items, place, size=size, token=token, query=("q",), order=order)
        seen += page
        if not token:
            return seen


@given(st.sets(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=30), st.integers(1, 7), st.booleans())
def test_pages_together_are_the_ordered_list(items: set[tuple[str, int]], size: int, descending: bool) -> None:
    order = Order(frozenset({0}) if descending else frozenset())
    expected = sorted(items, key=lambda item: item[1])
    expected.sort(key=lambda item: item[0], reverse=descending)
    assert walk(items, size, order) == expected


def test_a_page_goes_on_after_its_place_when_the_item_is_gone() -> None:
    _, token = page_of([("a", 1), ("b", 2), ("c", 3)], place, size=2, token="", query=("q",))
    page, _ = page_of([("a", 1), ("c", 3)], place, size=2, token=token, query=("q",))
    assert page == [("c", 3)]


@pytest.mark.parametrize("token", ["x", "!!!", "W10", "e30", "MQ", "bnVsbA", "WzEsMl0"])
def test_a_damaged_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageToken):
        page_of([("a", 1)], place, size=1, token=token, query=("q",))


def test_a_token_of_another_query_is_refused() -> None:
    _, token = page_of([("a", 1), ("b", 2)], place, size=1, token="", query=("one",))
    with pytest.raises(InvalidPageToken):
        page_of([("a", 1), ("b", 2)], place, size=1, token=token, query=("two",))


@given(st.text(max_size=40))
def test_no_text_is_a_token_by_accident(token: str) -> None:
    if token:
        with pytest.raises(InvalidPageToken):
            page_of([("a", 1)], place, size=1, token=token, query=("q",))
