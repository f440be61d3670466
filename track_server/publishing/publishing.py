"""The commands: publish, unpublish, get, list."""

from typing import Final

from track.v1 import event_pb2, publication_pb2
from track.v1.publication_pb2 import Publication
from track_server.access.access import Access
from track_server.access.bounds import Bounds
from track_server.access.principal import Principal
from track_server.access.rules import is_admin
from track_server.cel import compile_filter, in_time
from track_server.deadline import Deadline
from track_server.errors import DeadlineTooShort, PublicationNotFound
from track_server.livekit.api import LiveKitApi
from track_server.metadata.specified import SpecifiedMetadata
from track_server.paging import Position, page_of
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.causes import moving, publishing
from track_server.publishing.clearance import Clearance
from track_server.publishing.ending import METHODS, Ending
from track_server.publishing.ids import identity_of, made_up
from track_server.publishing.ids import publication_id as id_of
from track_server.publishing.progress import Progress
from track_server.publishing.questions import ending, question_of
from track_server.publishing.routes import CLIENT, Routes, route_of
from track_server.publishing.secrets import shown, with_stream_key
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms

# Below this nothing could be seen before the caller is gone.
MIN_TIME_S: Final = 0.05


class Publishing:
    """Answers PublishTrack, UnpublishTrack of a publication, GetPublication and ListPublications."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        book: Book,
        routes: Routes,
        access: Access,
        clearance: Clearance,
        progress: Progress,
        ending: Ending,
        metadata: SpecifiedMetadata,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._book = book
        self._routes = routes
        self._access = access
        self._clearance = clearance
        self._progress = progress
        self._ending = ending
        self._metadata = metadata

    async def publish(
        self,
        principal: Principal,
        request: publication_pb2.PublishTrackRequest,
        operation_key: str,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> publication_pb2.PublishTrackResponse:
        """Stores the publication, and waits for it to be in the room. One ``operation_key`` publishes once."""
        if deadline.remaining_s() < MIN_TIME_S:
            raise DeadlineTooShort("the deadline leaves no time to publish")
        publication_id = id_of(operation_key)
        known = self._book.find(request.room, publication_id)
        if known is not None:
            async with self._rooms.watch(request.room) as live:
                return await self._wait_live(live, known, deadline)
        route = route_of(request.route, request.spec)
        identity = request.participant_identity or _own_identity(principal, request.room, route)
        identity = identity or identity_of(publication_id)
        spec, kind, bounds = await self._clearance.spec(principal, request.room, identity, publication_id, request.spec)
        publication = Publication(
            publication_id=publication_id,
            room=request.room,
            participant_identity=identity,
            route=route,
            spec=spec,
            type=kind,
            creator_identity=principal.identity,
            creator=principal.message,
        )
        await self._metadata.check(publication)
        carrying_out = self._routes.of(publication)
        if request.validate_only:
            return await self._validated(publication, bounds, create_room=request.create_room)
        if request.create_room:
            # What is refused whoever is in the room must not create it.
            await carrying_out.refuse(publication, None)
            self._clearance.admit(publication, bounds, None)
            await self._api.create_room(request.room)
        async with self._rooms.watch(request.room) as live:
            await carrying_out.refuse(publication, live)
            publication = self._clearance.fitted(lifecycle.begin(publication, now()), bounds, live)
            # Nothing may be waited for between the two: of calls at the same time only one has the last place.
            self._clearance.admit(publication, bounds, live)
            self._metadata.fit(publication, live)
            publishing(self._rooms, publication, cause)
            await self._store_allowed(principal, publication, cause)
            carrying_out.kick(publication)
            return await self._wait_live(live, publication, deadline)

    async def _store_allowed(self, principal: Principal, publication: Publication, cause: event_pb2.EventCause) -> None:
        """Stores it, and asks again: a permission that went away since it was checked found nothing to end.

        What is refused, not stored, or given up by its caller meanwhile does not stay: nobody would publish it.
        """
        try:
            with moving(self._rooms, publication, cause):
                await self._book.save(publication)
            await self._access.require(principal, question_of(publication))
        except BaseException:
            await self._book.forget(publication)
            raise

    async def _validated(
        self, publication: Publication, bounds: Bounds, *, create_room: bool
    ) -> publication_pb2.PublishTrackResponse:
        """The answer where everything is checked and nothing done; what would be made from the id is left out."""
        if not create_room or await self._api.find_rooms([publication.room]):
            async with self._rooms.watch(publication.room) as live:
                await self._validate(publication, bounds, live)
        else:
            await self._validate(publication, bounds, None)
        if made_up(publication):
            publication.participant_identity = ""
        spec = publication.spec
        if spec.data_options.topic == publication.publication_id:
            spec.data_options.topic = ""
        if spec.name == publication.publication_id:
            spec.name = ""
        publication.publication_id = ""
        limits = self._clearance.applied(publication)
        return publication_pb2.PublishTrackResponse(publication=shown(publication), limits=limits)

    async def _validate(self, publication: Publication, bounds: Bounds, live: LiveRoom | None) -> None:
        await self._routes.of(publication).refuse(publication, live)
        if live is not None:
            self._clearance.fitted(publication, bounds, live)
            self._metadata.fit(publication, live)
        self._clearance.admit(publication, bounds, live)

    async def unpublish(
        self,
        principal: Principal,
        request: publication_pb2.UnpublishTrackRequest,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> publication_pb2.UnpublishTrackResponse:
        """Ends the publication, and waits for its track to be gone. Raises PublicationNotFound."""
        known = self._book.find(request.room, request.publication_id)
        await self._access.require(principal, ending(request.room, known))
        publication = self.get(request.room, request.publication_id)
        if request.validate_only:
            return publication_pb2.UnpublishTrackResponse(publication=publication, method=METHODS[publication.route])
        return await self._ending.end(publication, publication_pb2.PUBLICATION_END_CAUSE_CALLER, deadline, cause)

    def get(self, room: str, publication_id: str) -> Publication:
        """The publication. Raises PublicationNotFound."""
        publication = self._book.find(room, publication_id)
        if publication is None:
            raise PublicationNotFound(f"no publication {publication_id!r} in the room", field="publication_id")
        return publication

    def list_page(self, request: publication_pb2.ListPublicationsRequest) -> publication_pb2.ListPublicationsResponse:
        """A page of publications, oldest first. Raises InvalidExpression, InvalidPageToken."""
        matches = in_time(compile_filter(request.filter, "publication"))
        publications, token = page_of(
            (found for found in self._book.of_room(request.room) if matches(found)),
            _position,
            size=request.page_size,
            token=request.page_token,
            query=("publications", request.room, request.filter),
        )
        return publication_pb2.ListPublicationsResponse(publications=publications, next_page_token=token)

    async def _wait_live(
        self, live: LiveRoom, publication: Publication, deadline: Deadline
    ) -> publication_pb2.PublishTrackResponse:
        reached = await self._progress.live(live, publication, deadline)
        return publication_pb2.PublishTrackResponse(
            # Who asked for it has to know where to send.
            publication=with_stream_key(reached.publication, self._book.whole(reached.publication)),
            stage=reached.stage,
            evidence=reached.evidence,
            limits=self._clearance.applied(reached.publication),
        )


def _own_identity(principal: Principal, room: str, route: "publication_pb2.PublicationRoute.ValueType") -> str:
    """The identity that a caller publishes as where it names none: its own, unless it is an admin of the room.

    A client is always its participant's.
    """
    return principal.identity if route == CLIENT or not is_admin(principal, room) else ""


def _position(publication: Publication) -> Position:
    return (publication.create_time.ToNanoseconds(), publication.publication_id)
