"""The commands: publish, unpublish, get, list."""

import asyncio
import hashlib
from pathlib import Path
from typing import Final

from track.v1 import access_pb2, publication_pb2, track_pb2
from track.v1.publication_pb2 import Publication
from track_server.access.principal import Principal
from track_server.access.rules import is_admin, require_target
from track_server.cel import compile_filter
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
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.publishing.session import hosted
from track_server.publishing.spec import Stream, complete, type_of
from track_server.rooms.reading import look
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
        *,
        media_dir: Path | None,
        url_hosts: frozenset[str],
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._book = book
        self._sessions = sessions
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
        _authorise(principal, request.room, identity, request.spec, _plausible_source(principal, request.spec))
        stream = await self._probe(request.spec)
        spec = complete(request.spec, publication_id, stream)
        _authorise(principal, request.room, identity, spec, spec.source)
        if request.create_room:
            await self._api.create_room(request.room)
        async with self._rooms.watch(request.room) as live:
            await self._refuse_taken(live, identity, made_up=identity == publication_id.lower())
            publication = lifecycle.begin(
                Publication(
                    publication_id=publication_id,
                    room=request.room,
                    participant_identity=identity,
                    route=publication_pb2.PUBLICATION_ROUTE_HOSTED,
                    spec=spec,
                    type=type_of(spec, stream),
                    creator_identity=principal.identity,
                ),
                now(),
            )
            await self._book.save(publication)
            self._sessions.host(request.room, identity)
            return await self._wait_live(live, publication, deadline)

    async def unpublish(
        self, principal: Principal, request: publication_pb2.UnpublishTrackRequest, deadline: Deadline
    ) -> publication_pb2.UnpublishTrackResponse:
        """Ends the publication, and waits for its track to be gone. Raises PublicationNotFound."""
        publication = self._book.find(request.room, request.publication_id)
        require_target(
            principal,
            access_pb2.PERMISSION_PUBLISH,
            request.room,
            publication.participant_identity if publication is not None else "",
            source=publication.spec.source if publication is not None else track_pb2.TRACK_SOURCE_UNSPECIFIED,
            track_type=publication.type if publication is not None else track_pb2.TRACK_TYPE_UNSPECIFIED,
        )
        publication = self.get(request.room, request.publication_id)
        if publication.state != ENDED:
            cause = publication_pb2.PUBLICATION_END_CAUSE_CALLER
            publication = lifecycle.end(publication, cause, now())
            await self._book.save(publication)
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
        matches = compile_filter(request.filter, "publication")
        publications, token = page_of(
            (found for found in self._book.of_room(request.room) if matches is None or matches(found)),
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
            # It may have joined a moment ago, which signalling does not tell yet.
            participant = (await look(self._api, live.name)).participants.get(identity)
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
        answer = publication_pb2.PublishTrackResponse(publication=found, stage=STORED)
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


def _authorise(
    principal: Principal,
    room: str,
    identity: str,
    spec: publication_pb2.PublicationSpec,
    source: track_pb2.TrackSource.ValueType,
) -> None:
    kind = track_pb2.TRACK_TYPE_DATA if spec.HasField("data") else track_pb2.TRACK_TYPE_UNSPECIFIED
    require_target(principal, access_pb2.PERMISSION_PUBLISH, room, identity, source=source, track_type=kind)


def _plausible_source(principal: Principal, spec: publication_pb2.PublicationSpec) -> track_pb2.TrackSource.ValueType:
    """The source before the file was looked at, which a caller who may not publish must not cause.

    A file whose stream is left open may turn out as any source that the caller may publish.
    """
    if spec.source:
        return spec.source
    if spec.HasField("file") and not spec.file.type:
        return next(iter(principal.grants.can_publish_sources), track_pb2.TRACK_SOURCE_UNSPECIFIED)
    audio = spec.HasField("tone") or spec.file.type == track_pb2.TRACK_TYPE_AUDIO
    return track_pb2.TRACK_SOURCE_MICROPHONE if audio else track_pb2.TRACK_SOURCE_CAMERA


def _own_identity(principal: Principal, room: str) -> str:
    """The identity that a caller publishes as where it names none: its own, unless it is an admin of the room."""
    return "" if is_admin(principal, room) else principal.identity


def _position(publication: Publication) -> Position:
    return (publication.create_time.ToNanoseconds(), publication.publication_id)
