"""The commands: publish, unpublish, get, list."""

import asyncio
import hashlib
from pathlib import Path
from typing import Final

from track.v1 import access_pb2, publication_pb2, track_pb2
from track.v1.publication_pb2 import Publication
from track_server.access.access import Access
from track_server.access.bounds import Bounds, Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.rules import is_admin
from track_server.cel import compile_filter, in_time
from track_server.deadline import Deadline
from track_server.errors import (
    DeadlineTooShort,
    IdentityInUse,
    ProblemError,
    PublicationNotFound,
    TrackError,
)
from track_server.livekit.api import LiveKitApi
from track_server.mediafile import probe, resolve
from track_server.paging import Position, page_of
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.capacity import Capacity
from track_server.publishing.hosting import Sessions
from track_server.publishing.ids import hosted
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.publishing.questions import ending, plausible, question_of
from track_server.publishing.spec import Stream, complete, description_of, type_of
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms

# Below this nothing could be seen before the caller is gone.
MIN_TIME_S: Final = 0.05
STORED: Final = publication_pb2.STAGE_REQUESTED


class Publishing:
    """Answers PublishTrack, UnpublishTrack, GetPublication and ListPublications."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        book: Book,
        sessions: Sessions,
        access: Access,
        capacity: Capacity,
        *,
        media_dir: Path | None,
        url_hosts: frozenset[str],
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._book = book
        self._sessions = sessions
        self._access = access
        self._capacity = capacity
        self._media_dir = media_dir
        self._url_hosts = url_hosts

    async def publish(
        self,
        principal: Principal,
        request: publication_pb2.PublishTrackRequest,
        operation_key: str,
        deadline: Deadline,
    ) -> publication_pb2.PublishTrackResponse:
        """Stores the publication, and waits for it to be in the room. One ``operation_key`` publishes once."""
        if deadline.remaining_s() < MIN_TIME_S:
            raise DeadlineTooShort("the deadline leaves no time to publish")
        publication_id = f"PUB_{hashlib.blake2b(operation_key.encode(), digest_size=10).hexdigest()}"
        known = self._book.find(request.room, publication_id)
        if known is not None:
            async with self._rooms.watch(request.room) as live:
                return await self._wait_live(live, known, deadline)
        identity = request.participant_identity or _own_identity(principal, request.room) or publication_id.lower()
        spec, kind, bounds = await self._cleared(principal, request.room, identity, publication_id, request.spec)
        publication = Publication(
            room=request.room,
            participant_identity=identity,
            route=publication_pb2.PUBLICATION_ROUTE_HOSTED,
            spec=spec,
            type=kind,
            creator_identity=principal.identity,
            creator=principal.message,
        )
        self._sessions.refuse_data_beside_private(publication)
        if request.validate_only:
            return await self._validated(publication, publication_id, bounds, create_room=request.create_room)
        if request.create_room:
            # What is refused whoever is in the room must not create it.
            self._admit(publication, bounds, None)
            await self._api.create_room(request.room)
        async with self._rooms.watch(request.room) as live:
            await self._refuse_taken(live, identity, made_up=identity == publication_id.lower())
            publication.publication_id = publication_id
            publication = lifecycle.begin(publication, now())
            # Nothing may be waited for between the two: of calls at the same time only one has the last place.
            self._admit(publication, bounds, live)
            await self._store_allowed(principal, publication)
            self._sessions.host(request.room, identity)
            return await self._wait_live(live, publication, deadline)

    async def _store_allowed(self, principal: Principal, publication: Publication) -> None:
        """Stores it, and asks again: a permission that went away since it was checked found nothing to end.

        What is refused, not stored, or given up by its caller meanwhile does not stay: nobody would publish it.
        """
        try:
            await self._book.save(publication)
            await self._access.require(principal, question_of(publication))
        except BaseException:
            await self._book.forget(publication)
            raise

    async def _cleared(
        self,
        principal: Principal,
        room: str,
        identity: str,
        publication_id: str,
        asked: publication_pb2.PublicationSpec,
    ) -> tuple[publication_pb2.PublicationSpec, track_pb2.TrackType.ValueType, Bounds]:
        """The spec, completed within what the principal may publish, the type of the track, and the bounds."""

        async def require(description: Description) -> Bounds:
            question = Question(access_pb2.PERMISSION_PUBLISH, room, identity, described=description)
            return await self._access.require(principal, question)

        # First for what is known already: a caller that may not publish must not make us look at files and URLs.
        bounds = await require(plausible(principal, asked))
        stream = await self._probe(asked)
        kind = type_of(asked, stream)
        spec = complete(asked, publication_id, stream, self._capacity.narrowed(bounds), self._capacity.max_pixels)
        bounds = await require(description_of(spec, kind))
        bounds.refuse_beyond(description_of(spec, kind), "spec")
        self._capacity.check_track(spec, kind)
        return spec, kind, bounds

    def _admit(self, publication: Publication, bounds: Bounds, live: LiveRoom | None) -> None:
        tracks = live.model.tracks.values() if live is not None else ()
        self._capacity.admit(publication, self._book.active(), tracks, bounds)

    async def _validated(
        self, publication: Publication, publication_id: str, bounds: Bounds, *, create_room: bool
    ) -> publication_pb2.PublishTrackResponse:
        """The answer where everything is checked and nothing done; what would be made from the id is left out."""
        made_up = publication.participant_identity == publication_id.lower()
        if not create_room or await self._api.find_rooms([publication.room]):
            async with self._rooms.watch(publication.room) as live:
                await self._refuse_taken(live, publication.participant_identity, made_up=made_up)
                self._admit(publication, bounds, live)
        else:
            self._admit(publication, bounds, None)
        if made_up:
            publication.participant_identity = ""
        if publication.spec.name == publication_id:
            publication.spec.name = ""
        return publication_pb2.PublishTrackResponse(publication=publication, limits=self._capacity.applied(publication))

    async def unpublish(
        self, principal: Principal, request: publication_pb2.UnpublishTrackRequest, deadline: Deadline
    ) -> publication_pb2.UnpublishTrackResponse:
        """Ends the publication, and waits for its track to be gone. Raises PublicationNotFound."""
        known = self._book.find(request.room, request.publication_id)
        await self._access.require(principal, ending(request.room, known))
        publication = self.get(request.room, request.publication_id)
        if request.validate_only:
            return publication_pb2.UnpublishTrackResponse(publication=publication)
        if publication.state != ENDED:
            cause = publication_pb2.PUBLICATION_END_CAUSE_CALLER
            publication = lifecycle.end(publication, cause, now())
        try:
            # Also one that has ended: it is an answer only once it is stored.
            await self._book.save(publication)
        finally:
            session = self._sessions.find(request.room, publication.participant_identity)
            if session is not None:
                session.kick()
        return await self._wait_gone(publication, deadline)

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

    def active(self, room: str) -> list[Publication]:
        """The room's publications that have not ended, oldest first."""
        return [found for found in self._book.of_room(room) if found.state != ENDED]

    async def _refuse_taken(self, live: LiveRoom, identity: str, *, made_up: bool) -> None:
        """``made_up``: the identity was made here, so nobody can hold it."""
        participant = live.model.participants.get(identity)
        if participant is None and not made_up and self._sessions.find(live.name, identity) is None:
            # It may have joined a moment ago, or be hidden as this service's watchers are: signalling does not tell.
            participant = (await roster(self._api, live.name)).participants.get(identity)
        if participant is not None and not hosted(live.name, participant):
            raise IdentityInUse(
                f"participant {identity!r} is in the room and not hosted by this service; joining would throw it out",
                field="participant_identity",
            )

    async def _probe(self, spec: publication_pb2.PublicationSpec) -> Stream | None:
        if not spec.HasField("file"):
            return None
        try:
            resolved = resolve(spec.file.uri, self._media_dir, self._url_hosts)
            info = await asyncio.to_thread(probe, resolved, spec.file.type)
        except TrackError as error:
            error.field = f"spec.{error.field}"
            raise
        if spec.file.type != track_pb2.TRACK_TYPE_AUDIO and info.has_video:
            return Stream(track_pb2.TRACK_TYPE_VIDEO, info.width, info.height, info.frames_per_second)
        return Stream(track_pb2.TRACK_TYPE_AUDIO)

    async def _wait_live(
        self, live: LiveRoom, publication: Publication, deadline: Deadline
    ) -> publication_pb2.PublishTrackResponse:
        room, publication_id = publication.room, publication.publication_id

        def current() -> Publication:
            return self._book.find(room, publication_id) or publication

        await self._book.until(lambda: current().state in (LIVE, ENDED), deadline.remaining_s())
        if current().state == LIVE:
            await live.until(
                lambda: current().state == ENDED or current().track_sid in live.model.tracks, deadline.remaining_s()
            )
        found = current()
        if found.end_cause == publication_pb2.PUBLICATION_END_CAUSE_FAILED and not found.lineage:
            await self._book.forget(found)
            raise ProblemError(found.problem)
        limits = self._capacity.applied(found)
        answer = publication_pb2.PublishTrackResponse(publication=found, stage=STORED, limits=limits)
        if found.lineage:
            answer.stage = publication_pb2.STAGE_ACKNOWLEDGED
        if found.state == LIVE and found.track_sid in live.model.tracks:
            answer.stage = publication_pb2.STAGE_OBSERVED
            answer.evidence = publication_pb2.EVIDENCE_ROOM
        return answer

    async def _wait_gone(self, publication: Publication, deadline: Deadline) -> publication_pb2.UnpublishTrackResponse:
        answer = publication_pb2.UnpublishTrackResponse(publication=publication, stage=STORED)
        sids = {entry.track_sid for entry in publication.lineage}
        live = self._rooms.find(publication.room)
        if live is None:
            return answer

        def gone() -> bool:
            return live.closed or (live.current and not sids & live.model.tracks.keys())

        if await live.until(gone, deadline.remaining_s()):
            answer.stage = publication_pb2.STAGE_OBSERVED
            answer.evidence = publication_pb2.EVIDENCE_ROOM
        return answer


def _own_identity(principal: Principal, room: str) -> str:
    """The identity that a caller publishes as where it names none: its own, unless it is an admin of the room."""
    return "" if is_admin(principal, room) else principal.identity


def _position(publication: Publication) -> Position:
    return (publication.create_time.ToNanoseconds(), publication.publication_id)
