"""Publications rest on their creator's permission to publish: what is to be asked about again, and ended."""

from collections.abc import Iterable

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Publication
from track_server.access.access import Access
from track_server.access.principal import remembered
from track_server.access.revocation import StandingEffect
from track_server.errors import PermissionDenied
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.causes import moving, unpublishing
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.questions import question_of
from track_server.publishing.routes import Routes
from track_server.rooms.causes import PERMISSION_REVOKED, rule_cause
from track_server.rooms.room import now
from track_server.rooms.rooms import Rooms


class StandingPublications:
    """All publications that have not ended and whose creator is known."""

    def __init__(self, rooms: Rooms, book: Book, routes: Routes) -> None:
        self._rooms = rooms
        self._book = book
        self._routes = routes

    def __call__(self) -> Iterable[StandingEffect]:
        """See Revocation.add."""
        return [self._standing(found) for found in self._book.active() if found.HasField("creator")]

    def _standing(self, publication: Publication) -> StandingEffect:
        async def end(error: PermissionDenied) -> None:
            current = self._book.find(publication.room, publication.publication_id)
            if current is None or current.state == ENDED:
                return
            revoked = publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED
            cause = rule_cause(PERMISSION_REVOKED, error.message)
            unpublishing(self._rooms, current, cause)
            ended = lifecycle.end(current, revoked, now(), detail=error.message, problem=error.problem())
            with moving(self._rooms, current, cause):
                await self._book.take(ended)
            self._routes.of(publication).kick(current)

        return StandingEffect(remembered(publication.creator), question_of(publication), end)


def report_revoked(access: Access, publication: Publication) -> None:
    """Tells whoever decides where LiveKit took away what it allows."""
    revoked = publication.end_cause == publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED
    # With a problem it was ended above.
    if revoked and publication.HasField("creator") and not publication.HasField("problem"):
        detail = "LiveKit took away the participant's permission to publish it"
        access.refused(remembered(publication.creator), question_of(publication), detail)
