"""The end of a publication that somebody asks for."""

from collections.abc import Mapping
from typing import Final

from track.v1 import event_pb2, publication_pb2
from track.v1.publication_pb2 import Publication, PublicationEndCause, PublicationRoute, UnpublishMethod
from track_server.deadline import Deadline
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.causes import moving, unpublishing
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.progress import Progress
from track_server.publishing.routes import Routes
from track_server.rooms.room import now
from track_server.rooms.rooms import Rooms

METHODS: "Final[Mapping[PublicationRoute.ValueType, UnpublishMethod.ValueType]]" = {
    PublicationRoute.PUBLICATION_ROUTE_HOSTED: publication_pb2.UNPUBLISH_METHOD_HOSTED_SESSION,
    PublicationRoute.PUBLICATION_ROUTE_CLIENT: publication_pb2.UNPUBLISH_METHOD_COMPANION,
    PublicationRoute.PUBLICATION_ROUTE_INGRESS: publication_pb2.UNPUBLISH_METHOD_INGRESS,
}
"""How a publication's route takes its track away."""


class Ending:
    """Ends publications."""

    def __init__(self, rooms: Rooms, book: Book, routes: Routes, progress: Progress) -> None:
        self._rooms = rooms
        self._book = book
        self._routes = routes
        self._progress = progress

    async def end(
        self,
        publication: Publication,
        end_cause: "PublicationEndCause.ValueType",
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> publication_pb2.UnpublishTrackResponse:
        """Ends it, and waits for its track to be gone. One that has ended stays. ``cause``: for who watches."""
        publication = await self.begin(publication, end_cause, cause)
        reached = await self._progress.gone(publication, deadline)
        return publication_pb2.UnpublishTrackResponse(
            publication=reached.publication,
            stage=reached.stage,
            evidence=reached.evidence,
            method=METHODS[publication.route],
        )

    async def begin(
        self, publication: Publication, end_cause: "PublicationEndCause.ValueType", cause: event_pb2.EventCause
    ) -> Publication:
        """Ends it, without waiting; returns it as it is then."""
        if publication.state != ENDED:
            unpublishing(self._rooms, publication, cause)
            publication = lifecycle.end(publication, end_cause, now())
        try:
            # Also one that has ended: it is an answer only once it is stored.
            with moving(self._rooms, publication, cause):
                await self._book.save(publication)
        finally:
            self._routes.of(publication).kick(publication)
        return publication
