"""Who is told that somebody listens to events of rooms, so that what is costly is found only then."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from track_server.rooms.selection import Selection


class Listening(Protocol):
    """What finds events only while somebody listens to them."""

    def want(self, owner: object, rooms: Iterable[str], selection: Selection) -> None:
        """``owner`` listens to those rooms, or to all where none is given, from now on, in the place of what it wanted
        before. Where its selection is of other events, it does not."""

    def release(self, owner: object) -> None:
        """``owner`` listens no more."""


class Listenings:
    """All of them, as one."""

    def __init__(self, each: Sequence[Listening]) -> None:
        self._each = each

    def want(self, owner: object, rooms: Iterable[str], selection: Selection) -> None:
        """See Listening."""
        names = list(rooms)
        for one in self._each:
            one.want(owner, names, selection)

    def release(self, owner: object) -> None:
        """See Listening."""
        for one in self._each:
            one.release(owner)

    @contextlib.contextmanager
    def wanted(self, rooms: Iterable[str], selection: Selection) -> Iterator[None]:
        """Somebody listens for the span of the block; see ``want``."""
        owner = object()
        self.want(owner, rooms, selection)
        try:
            yield
        finally:
            self.release(owner)
