"""All publications with pushed frames, and the feed of each."""

import asyncio
import hmac
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from track.media.v1.media_service_pb2 import PushSource
from track.v1.publication_pb2 import DegradedReason, Publication
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.push.connection import Connection
from track_server.publishing.push.feed import Feed
from track_server.publishing.push.socket import PushSocket
from track_server.rooms.room import LiveRoom

log = structlog.get_logger(__name__)


class Feeds:
    """Owner of the feeds, and of the socket on which they are fetched, `async with`. See Feed."""

    def __init__(
        self,
        book: Callable[[], Book],
        room_of: Callable[[str], LiveRoom | None],
        ended: Callable[[Publication], None],
        max_frame_bytes: int,
    ) -> None:
        self._book = book
        self._room_of = room_of
        self._ended = ended
        self._max_frame_bytes = max_frame_bytes
        self._feeds: dict[str, Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = PushSocket(self._serve)

    async def __aenter__(self) -> Self:
        await self._socket.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Lets go of all feeds; the publications stay. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.aclose()

    def restore(self) -> None:
        """Begins the feeds of the publications that an earlier run left."""
        for publication in self._book().active():
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
        feed = self._feeds.get(publication_id)
        return None if feed is None else PushSource(socket_path=self._socket.path, ticket=feed.ticket)

    async def meant(self, room: str, publication_id: str, *, muted: bool) -> Publication | None:
        """A mute or unmute of a publication that is muted already because it stalls: it is remembered.

        Returns the publication, or None where it does not stall, so that it is LiveKit's to do.
        """
        book = self._book()
        publication = book.find(room, publication_id) if publication_id else None
        if publication is None or publication.degraded != DegradedReason.DEGRADED_REASON_STALLED:
            return None
        if publication.muted != muted:
            publication = lifecycle.muted(publication, muted)
            await book.save(publication)
        return publication

    def _follow(self, publication: Publication) -> None:
        if not publication.spec.HasField("push") or publication.state == ENDED:
            return
        feed = Feed(publication, self._book(), self._room_of, self._ended, self._max_frame_bytes)
        self._feeds[publication.publication_id] = feed
        task = asyncio.create_task(
            self._run(publication.publication_id, feed), name=f"feed {publication.publication_id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, publication_id: str, feed: Feed) -> None:
        try:
            await feed.run()
        except Exception:
            log.exception("feed_broke", publication_id=publication_id)
            raise
        finally:
            self._feeds.pop(publication_id, None)
            await feed.aclose()

    async def _serve(self, ticket: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = [feed for feed in self._feeds.values() if hmac.compare_digest(feed.ticket, ticket)]
        if not found:
            log.info("push_ticket_unknown")
            return
        (feed,) = found
        await feed.serve(Connection(reader, writer, feed.window_bytes))
