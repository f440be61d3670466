"""The route HOSTED: sessions of this service publish."""

from track.v1.publication_pb2 import Publication
from track_server.errors import IdentityInUse, NotSupported
from track_server.livekit.api import LiveKitApi
from track_server.publishing.book import Book
from track_server.publishing.hosting import Sessions
from track_server.publishing.ids import hosted, made_up
from track_server.publishing.routes import INGRESS
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom


class HostedRoute:
    """See Route."""

    def __init__(self, api: LiveKitApi, book: Book, sessions: Sessions) -> None:
        self._api = api
        self._book = book
        self._sessions = sessions

    async def refuse(self, publication: Publication, live: LiveRoom | None) -> None:
        """Raises NotForDataTracks, NotSupported where frames cannot be pushed to the participant's session, and
        IdentityInUse where joining would throw somebody out.
        """
        self._sessions.refuse_data_beside_private(publication)
        identity = publication.participant_identity
        if self._book.active_of(publication.room, identity, INGRESS):
            raise IdentityInUse(f"participant {identity!r} is an ingress's", field="participant_identity")
        if live is None:
            return
        participant = live.model.participants.get(identity)
        session = self._sessions.find(live.name, identity)
        if session is not None and session.elsewhere and publication.spec.WhichOneof("input") == "push":
            raise NotSupported(
                f"participant {identity!r} is hosted by a media worker elsewhere, to which frames cannot be pushed;"
                " publish under another participant_identity",
                field="participant_identity",
            )
        known = made_up(publication) or session is not None
        if participant is None and not known:
            # It may have joined a moment ago, or be hidden as this service's watchers are: signalling does not tell.
            participant = (await roster(self._api, live.name)).participants.get(identity)
        if participant is not None and not hosted(live.name, participant):
            raise IdentityInUse(
                f"participant {identity!r} is in the room and not hosted by this service; joining would throw it out",
                field="participant_identity",
            )

    def kick(self, publication: Publication) -> None:
        """Tells the session, which is begun where there is none and the publication is wanted."""
        active = self._book.active_of(publication.room, publication.participant_identity)
        if any(found.publication_id == publication.publication_id for found in active):
            self._sessions.host(publication.room, publication.participant_identity)
        elif session := self._sessions.find(publication.room, publication.participant_identity):
            session.kick()

    def restore(self) -> None:
        """Begins the sessions of all publications that an earlier run left."""
        self._sessions.restore()
