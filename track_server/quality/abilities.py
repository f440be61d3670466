"""What can be done about the quality of a participant or a track."""

from typing import Protocol

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Participant, Track
from track_server.control.companion import Companion
from track_server.control.targets import connection_of
from track_server.errors import CompanionMissing, NotSupported
from track_server.publishing.book import Book
from track_server.publishing.ids import hosted
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.routes import INGRESS


class Clients(Protocol):
    """What is known of participants' clients: see SubscriberStates."""

    def has_companion(self, room: str, identity: str) -> bool | None:
        """Whether the client has one; None where that is not known (yet)."""


class Abilities:
    """Tells it, at the door by asking clients, and later by what is known of them."""

    def __init__(self, companion: Companion, book: Book, clients: Clients) -> None:
        self._companion = companion
        self._book = book
        self._clients = clients

    # At the door.

    async def require_layers(self, room: str, participant: Participant, what: str, field: str) -> None:
        """Returns where layers can be chosen for what the participant receives. ``what``: the action.

        Raises NotSupported, LiveKitUnavailable.
        """
        if not (hosted(room, participant) or await self._has_companion(room, participant)):
            raise NotSupported(f"{what} needs a companion in the participant's client", field=field)

    async def require_restart(self, room: str, publisher: Participant | None, track_sid: str, field: str) -> None:
        """Returns where the track, or with no SID any track of the publisher, can be restarted.

        Raises NotSupported, LiveKitUnavailable.
        """
        publication = self.publication(room, track_sid)
        if publication is not None and publication.route == INGRESS:
            raise NotSupported("an ingress is restarted by whoever sends it", field=field)
        if publication is not None or (publisher is not None and hosted(room, publisher)):
            return
        if publisher is None or not await self._has_companion(room, publisher):
            raise NotSupported(
                "RESTART needs a publication of this service, or a companion in the publisher's client", field=field
            )

    async def _has_companion(self, room: str, participant: Participant) -> bool:
        try:
            return await self._companion.has_companion(connection_of(room, participant))
        except CompanionMissing:
            return False

    # Later. Without waiting.

    def publication(self, room: str, track_sid: str) -> Publication | None:
        """The publication whose track it is now, or is to be."""
        active = (found for found in self._book.of_room(room) if found.state != ENDED)
        return next((found for found in active if track_sid and found.track_sid == track_sid), None)

    def takes_layers(self, room: str, identity: str) -> bool:
        """Whether the participant's client is known to obey."""
        return self._clients.has_companion(room, identity) is True

    def restartable(self, track: Track) -> bool:
        """Whether it is known that the track can be restarted."""
        publication = self.publication(track.room, track.sid)
        if publication is not None:
            return publication.route != INGRESS
        return self.takes_layers(track.room, track.participant_identity)
