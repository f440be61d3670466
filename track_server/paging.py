"""Pages of a list: tokens that name the query they belong to and the item they follow."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Final, TypeVar

from track_server.errors import InvalidPageToken

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000

T = TypeVar("T")
Position = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """An order of positions: field by field, the ones in ``descending`` (by index) the other way round."""

    descending: frozenset[int] = frozenset()

    def compare(self, left: Position, right: Position) -> int:
        """Below, equal to or above 0, as ``left`` comes before, with or after ``right``."""
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            if a != b:
                # Fields at one index have one type, which the type of a tuple cannot tell.
                less = a < b  # type: ignore[operator]
                return -1 if less != (index in self.descending) else 1
        return 0


def page_of(
    items: Iterable[T],
    position: Callable[[T], Position],
    *,
    size: int,
    token: str,
    query: Sequence[str],
    order: Order = Order(),
) -> tuple[list[T], str]:
    """The page of ``items`` that ``token`` asks for, in ``order``, and the token of the next ("" on the last).

    ``position`` gives each item a unique place. A page begins after the place of the one before, also where that item
    is gone meanwhile. ``query``: what must be the same from page to page. Raises InvalidPageToken.
    """
    limit = size or DEFAULT_PAGE_SIZE
    placed = [(position(item), item) for item in items]
    if token:
        after = position_in(token, query)
        try:
            placed = [(place, item) for place, item in placed if order.compare(place, after) > 0]
        except (ValueError, TypeError):
            raise InvalidPageToken("the page token is damaged", field="page_token") from None

    def by_place(left: tuple[Position, T], right: tuple[Position, T]) -> int:
        return order.compare(left[0], right[0])

    placed.sort(key=cmp_to_key(by_place))
    page = placed[:limit]
    return [item for _, item in page], page_token(page[-1][0], query) if len(placed) > limit else ""


def page_token(position: Position, query: Sequence[str]) -> str:
    """The token of the page after ``position``."""
    body = json.dumps([_digest(position, query), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def position_in(token: str, query: Sequence[str]) -> Position:
    """The position that the token of a page of ``query`` names. Raises InvalidPageToken."""
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        digest, *fields = body
        position: Position = tuple(fields)
        if digest == _digest(position, query):
            return position
    except (ValueError, TypeError, binascii.Error):
        pass
    raise InvalidPageToken("the page token is damaged or belongs to another query", field="page_token")


def _digest(position: Position, query: Sequence[str]) -> str:
    return hashlib.blake2b(json.dumps([position, *query]).encode(), digest_size=9).hexdigest()
