"""All publications with pushed frames, and the feed of each."""

import asyncio
from collections.abc import Callable

from track.media.v1.media_service_pb2 import PushSource
from track.v1.publication_pb2 import DegradedReason, Publication
from track_server.lifetime import Closing, Tasks
from track_server.localsocket.socket import LocalSocket
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.push.connection import Connection
from track_server.publishing.push.feed import Feed
from track_server.rooms.room import LiveRoom


class Feeds(Closing):
    """Owner of the feeds, `async with`. ``socket``: on which they are fetched. See Feed."""

    def __init__(
        self,
        book: Book,
        room_of: Callable[[str], LiveRoom | None],
        ended: Callable[[Publication], None],
        max_frame_bytes: int,
        socket: LocalSocket,
    ) -> None:
        self._book = book
        self._room_of = room_of
        self._ended = ended
        self._max_frame_bytes = max_frame_bytes
        self._feeds: dict[str, Feed] = {}
        self._tasks = Tasks()
        self._socket = socket
        self._tickets: dict[str, str] = {}
        """By publication id."""

    async def aclose(self) -> None:
        """Lets go of all feeds; the publications stay. May be called twice."""
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins the feeds of the publications that an earlier run left."""
        for publication in self._book.active():
            self._follow(publication)

    def announced(self, publication: Publication) -> None:
        """Is told of every change of a publication."""
        feed = self._feeds.get(publication.publication_id)
        if feed is None:
            self._follow(publication)
        else:
            feed.changed()

    def find(self, publication_id: str) -> Feed | None:
        """The feed of a publication that has not ended."""
        return self._feeds.get(publication_id)

    def source(self, publication_id: str) -> PushSource | None:
        """Where a child of a media worker on this machine gets the frames; None where they are not pushed."""
        ticket = self._tickets.get(publication_id)
        return None if ticket is None else PushSource(socket_path=self._socket.path, ticket=ticket)

    def stalling(self, room: str, publication_id: str) -> Publication | None:
        """The publication where its track is muted because it stalls; None where it does not, or is not there."""
        publication = self._book.find(room, publication_id) if publication_id else None
        if publication is None or publication.degraded != DegradedReason.DEGRADED_REASON_STALLED:
            return None
        return publication

    async def meant(self, room: str, publication_id: str, *, muted: bool) -> Publication | None:
        """A mute or unmute of a publication that is muted already because it stalls: it is remembered.

        Returns the publication, or None where it does not stall, so that it is LiveKit's to do.
        """
        publication = self.stalling(room, publication_id)
        if publication is not None and publication.muted != muted:
            publication = lifecycle.muted(publication, muted)
            await self._book.save(publication)
        return publication

    def _follow(self, publication: Publication) -> None:
        if not publication.spec.HasField("push") or publication.state == ENDED:
            return
        feed = Feed(publication, self._book, self._room_of, self._ended, self._max_frame_bytes)
        self._feeds[publication.publication_id] = feed

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await feed.serve(Connection(reader, writer, feed.window_bytes))

        self._tickets[publication.publication_id] = self._socket.issue(serve)
        self._tasks.spawn(self._run(publication.publication_id, feed), name=f"feed {publication.publication_id}")

    async def _run(self, publication_id: str, feed: Feed) -> None:
        try:
            await feed.run()
        finally:
            self._feeds.pop(publication_id, None)
            self._socket.withdraw(self._tickets.pop(publication_id))
            await feed.aclose()
