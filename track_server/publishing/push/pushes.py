"""PushMedia: frames that callers stream into their publications."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from track.v1 import push_pb2 as pb
from track.v1.publication_pb2 import Publication
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.errors import InvalidField, PublicationEnded, PublicationNotFound
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.push.feeds import Feeds
from track_server.publishing.push.stream import PushStream
from track_server.publishing.questions import ending


class Pushes:
    """Answers PushMedia."""

    def __init__(self, book: Book, feeds: Feeds, access: Access) -> None:
        self._book = book
        self._feeds = feeds
        self._access = access

    async def push(
        self, principal: Principal, requests: AsyncIterator[pb.PushMediaRequest]
    ) -> AsyncGenerator[pb.PushMediaResponse]:
        """Takes frames until the caller ends the stream, or the media.

        Raises PermissionDenied where the publication is not the principal's, whether there is one or not,
        PublicationNotFound, PublicationEnded, PushInProgress, and InvalidField for what is wrong with a message.
        """
        first = await anext(requests)
        if first.WhichOneof("frame") is not None:
            raise InvalidField("the first message names the publication and has no frame", field="frame")
        if not first.publication_id:
            raise InvalidField("the first message must name the publication", field="publication_id")
        publication = await self._cleared(principal, first.room, first.publication_id)
        if not publication.spec.HasField("push"):
            raise InvalidField("the publication takes no frames: its input is not push", field="publication_id")
        feed = self._feeds.find(publication.publication_id)
        if publication.state == ENDED or feed is None:
            raise PublicationEnded("the publication has ended", field="publication_id")
        async with aclosing(PushStream(feed, requests).answers()) as answers:
            async for answer in answers:
                yield answer

    async def _cleared(self, principal: Principal, room: str, publication_id: str) -> Publication:
        """The publication, where the principal may publish as its participant."""
        publication = self._book.find(room, publication_id)
        await self._access.require(principal, ending(room, publication))
        if publication is None:
            raise PublicationNotFound(f"no publication {publication_id!r} in the room", field="publication_id")
        return publication
