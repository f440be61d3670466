"""A publication by a client in the Book: read, and moved on while it has not ended."""

from collections.abc import Callable

from track.v1.publication_pb2 import Publication, PublicationEndCause
from track_server.errors import TrackError
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.client.steps import to_withdraw
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.rooms.room import now


class Entry:
    """One publication of a room. Others may end it at any time, so it is read again before every step."""

    def __init__(self, book: Book, room: str, publication_id: str) -> None:
        self._book = book
        self._room = room
        self._publication_id = publication_id

    def wanted(self) -> Publication | None:
        """It, while it has not ended."""
        current = self._book.find(self._room, self._publication_id)
        return current if current is not None and current.state != ENDED else None

    def to_withdraw(self) -> bool:
        """Whether its client has to be told that it is over."""
        current = self._book.find(self._room, self._publication_id)
        return current is None or to_withdraw(current)

    async def take(self, change: Callable[[Publication], Publication]) -> None:
        """Makes of it what ``change`` does, where it has not ended."""
        current = self.wanted()
        if current is not None:
            await self._book.take(change(current))

    async def trouble(self, error: TrackError) -> None:
        """It has to wait, for that reason."""
        await self.take(lambda found: found if found.state == LIVE else lifecycle.troubled(found, error.problem()))

    async def end(self, cause: "PublicationEndCause.ValueType", error: TrackError | None = None) -> None:
        """Ends it, for that cause; ``error`` tells why."""
        problem = error.problem() if error is not None else None
        await self.take(lambda found: lifecycle.end(found, cause, now(), problem=problem))
