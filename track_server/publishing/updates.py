"""UpdatePublication: changes of publications while they are live."""

import contextlib
from dataclasses import dataclass
from typing import Final

from protovalidate import Validator

from track.control.v1 import control_pb2 as control
from track.v1 import event_pb2, publication_pb2
from track.v1 import publication_update_pb2 as pb
from track.v1.publication_pb2 import Evidence, Publication, PublicationSpec, Stage
from track.v1.publication_update_pb2 import MediaGap, UpdateMethod
from track_server.access.access import Access
from track_server.access.bounds import Bounds
from track_server.access.principal import Principal
from track_server.deadline import Deadline
from track_server.errors import (
    DeadlineTooShort,
    InvalidField,
    InvalidOptions,
    NotSupported,
    PublicationEnded,
    PublicationNotFound,
    TrackError,
)
from track_server.faults import fault_of, path_of
from track_server.mediachange import same_media
from track_server.metadata.specified import SpecifiedMetadata
from track_server.publishing import attempts, lifecycle
from track_server.publishing.book import Book
from track_server.publishing.causes import moving, replacing
from track_server.publishing.changes import IN_PLACE, NONE, REPLACED, changed, method_of, refuse_unchangeable
from track_server.publishing.clearance import Clearance
from track_server.publishing.client.route import ClientRoute
from track_server.publishing.client.updates import ClientUpdates
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.publishing.progress import Progress
from track_server.publishing.publishing import MIN_TIME_S
from track_server.publishing.questions import ending
from track_server.publishing.replacing import Replacing
from track_server.publishing.routes import CLIENT, INGRESS
from track_server.publishing.secrets import shown
from track_server.publishing.session import HostedSession
from track_server.publishing.spec import Stream, complete
from track_server.publishing.spec.kinds import VIDEO
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import StoreError

_METADATA: Final = "metadata"
"""The field of the spec."""
_STORED: Final = publication_pb2.STAGE_REQUESTED
_UNKNOWN: Final = UpdateMethod.UPDATE_METHOD_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be done. Both are whole: they have their secrets."""

    before: Publication
    after: Publication
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class _Effect:
    """What became of it."""

    method: "UpdateMethod.ValueType"
    stage: "Stage.ValueType" = publication_pb2.STAGE_UNSPECIFIED
    evidence: "Evidence.ValueType" = publication_pb2.EVIDENCE_UNSPECIFIED
    gap: MediaGap | None = None


class PublicationUpdates:
    """Answers UpdatePublication. ``clients``: the route of what participants' clients publish."""

    def __init__(
        self,
        rooms: Rooms,
        book: Book,
        clients: ClientRoute,
        client_updates: ClientUpdates,
        sessions: Sessions,
        access: Access,
        clearance: Clearance,
        progress: Progress,
        replacing: Replacing,
        metadata: SpecifiedMetadata,
    ) -> None:
        self._rooms = rooms
        self._book = book
        self._clients = clients
        self._client_updates = client_updates
        self._sessions = sessions
        self._access = access
        self._clearance = clearance
        self._progress = progress
        self._replacing = replacing
        self._metadata = metadata
        self._rules = Validator()

    async def update(
        self,
        principal: Principal,
        request: pb.UpdatePublicationRequest,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> pb.UpdatePublicationResponse:
        """Stores the change, and waits for its effect. Where its new track or its client fails, it is what it was.
        ``cause``: the call, to those who watch.

        Raises PublicationNotFound, PublicationEnded, what PublishTrack raises of a spec, RestartInProgress while
        another change of it takes longer than the deadline, and what made the change fail.
        """
        if deadline.remaining_s() < MIN_TIME_S:
            raise DeadlineTooShort("the deadline leaves no time to change anything")
        known = self._book.find(request.room, request.publication_id)
        await self._access.require(principal, ending(request.room, known))
        async with self._replacing.turn(request.publication_id, deadline):
            change = await self._cleared(principal, request)
            async with self._rooms.watch(request.room) as live:
                change = self._admitted(change, live)
                if request.validate_only:
                    effect = _Effect(_foreseen(change))
                    publication = shown(change.after)
                else:
                    effect = await self._make(live, change, deadline, cause)
                    if _METADATA in request.update_mask.paths:
                        self._metadata.respecified(change.after)
                    publication = self._book.find(request.room, request.publication_id) or shown(change.after)
        return pb.UpdatePublicationResponse(
            publication=publication,
            stage=effect.stage,
            evidence=effect.evidence,
            method=effect.method,
            gap=effect.gap,
            limits=self._clearance.applied(publication),
        )

    # What is to be done.

    async def _cleared(self, principal: Principal, request: pb.UpdatePublicationRequest) -> _Change:
        """The change, within what the principal may publish."""
        known = self._book.find(request.room, request.publication_id)
        if known is None:
            raise PublicationNotFound(f"no publication {request.publication_id!r} in the room", field="publication_id")
        if known.state == ENDED:
            raise PublicationEnded("the publication has ended", field="publication_id")
        before = self._book.whole(known)

        def completed(spec: PublicationSpec) -> PublicationSpec:
            return complete(self._within_the_rules(spec), before.publication_id, _stream_of(before))

        asked = changed(before.spec, request.spec, request.update_mask, completed)
        spec, kind, bounds = await self._clearance.spec(
            principal, before.room, before.participant_identity, before.publication_id, self._within_the_rules(asked)
        )
        if kind != before.type:
            raise InvalidOptions("what the track carries cannot change", field="update_mask")
        refuse_unchangeable(before.spec, spec)
        after = lifecycle.changed(before, spec)
        if _METADATA in request.update_mask.paths:
            await self._metadata.check(after)
        if method_of(before, after) != NONE and before.route == INGRESS:
            raise NotSupported("an ingress sends what it was made with; end it and publish another one")
        return _Change(before, after, bounds)

    def _within_the_rules(self, spec: PublicationSpec) -> PublicationSpec:
        if violations := self._rules.collect_violations(spec):
            field = f"spec.{path_of(violations[0])}"
            raise InvalidField(f"{field}: {fault_of(violations[0])}", field=field)
        return spec

    def _admitted(self, change: _Change, live: LiveRoom) -> _Change:
        """The change where there is room for it, in a codec that LiveKit has."""
        current = self._book.find(live.name, change.before.publication_id)
        if current is None or current.state == ENDED:
            raise PublicationEnded("the publication has ended", field="publication_id")
        # It may have moved on while the change was cleared.
        before = self._book.whole(current)
        after = lifecycle.changed(before, change.after.spec)
        if not same_media(before.spec, after.spec):
            after = self._clearance.fitted(attempts.anew(after), change.bounds, live)
        self._clearance.admit(after, change.bounds, live)
        if after.spec.metadata != before.spec.metadata:
            self._metadata.fit(after, live)
        return _Change(before, after, change.bounds)

    # Doing it.

    async def _make(self, live: LiveRoom, change: _Change, deadline: Deadline, cause: event_pb2.EventCause) -> _Effect:
        change = await self._noted(live, change)
        before, after = change.before, change.after
        method = method_of(before, after)
        with moving(self._rooms, before, cause):
            await self._store(before, after)
        if same_media(before.spec, after.spec):
            return _Effect(NONE, _STORED)
        if after.route == CLIENT:
            return await self._by_client(live, change, deadline)
        session = self._sessions.host(after.room, after.participant_identity)
        if before.state != LIVE:
            # What is being published is not what is wanted any more.
            session.carried.anew(after.publication_id)
            reached = await self._progress.live(live, after, deadline)
            return _Effect(NONE, reached.stage, reached.evidence)
        if method == NONE:
            # What was asked for is what a step down had made of it.
            return _Effect(NONE, _STORED)
        if method == IN_PLACE:
            return await self._in_place(session, after, deadline)
        current = self._book.find(after.room, after.publication_id) or after
        replacing(self._rooms, current, cause)
        replaced = await self._replacing.replace_in_turn(current, deadline, graceful=True, before=before)
        return _Effect(REPLACED, replaced.stage, replaced.evidence, replaced.gap)

    async def _noted(self, live: LiveRoom, change: _Change) -> _Change:
        """The change of the publication as it is now: it may have ended, or moved on, while what it was is noted, which
        is done where its client has to make the change."""
        if not _is_by_client(change.before, change.after):
            return change
        noted = change.before
        await self._client_updates.note(noted)
        try:
            change = self._admitted(change, live)
        except TrackError:
            await self._client_updates.forget(noted)
            raise
        if not _is_by_client(change.before, change.after):
            await self._client_updates.forget(noted)
        return change

    async def _store(self, before: Publication, after: Publication) -> None:
        """What is not stored, or given up by its caller meanwhile, does not stay: nobody would be told of it."""
        by_client = _is_by_client(before, after)
        try:
            await self._book.rewrite(after)
        except BaseException:
            if by_client:
                await self._client_updates.forget(before)
            current = self._book.find(after.room, after.publication_id)
            if current is not None and current.state != ENDED:
                with contextlib.suppress(StoreError):
                    await self._book.rewrite(attempts.back_to(current, before))
            raise

    async def _in_place(self, session: HostedSession, publication: Publication, deadline: Deadline) -> _Effect:
        takeovers, publication_id = session.carried.takeovers, publication.publication_id
        number = takeovers.begin_change(publication_id)
        session.kick()

        def settled() -> bool:
            return self._has_ended(publication) or takeovers.has_changed(publication_id, number)

        made = await self._book.until(settled, deadline.remaining_s())
        if self._has_ended(publication):
            raise PublicationEnded("the publication has ended", field="publication_id")
        if made:
            return _Effect(IN_PLACE, publication_pb2.STAGE_OBSERVED, publication_pb2.EVIDENCE_HOSTED_SESSION)
        return _Effect(IN_PLACE, _STORED)

    def _has_ended(self, publication: Publication) -> bool:
        current = self._book.find(publication.room, publication.publication_id)
        return current is None or current.state == ENDED

    async def _by_client(self, live: LiveRoom, change: _Change, deadline: Deadline) -> _Effect:
        before, after = change.before, change.after
        if not _is_by_client(before, after):
            self._clients.kick(after)
            return _Effect(NONE, _STORED)
        reply = await self._client_updates.make(before, after, deadline)
        if reply is None or reply.status != control.COMMAND_STATUS_DONE:
            return _Effect(_UNKNOWN, _STORED)
        sid = reply.result.track_sid or before.track_sid
        method = IN_PLACE if sid == before.track_sid else REPLACED
        gap = MediaGap(publisher_ms=reply.result.gap_ms) if reply.result.HasField("gap_ms") else None
        if await live.until(lambda: sid in live.model.tracks, deadline.remaining_s()):
            return _Effect(method, publication_pb2.STAGE_OBSERVED, publication_pb2.EVIDENCE_COMPANION, gap)
        return _Effect(method, publication_pb2.STAGE_ACKNOWLEDGED, gap=gap)


def _is_by_client(before: Publication, after: Publication) -> bool:
    """Whether the participant's client has to make it: of what is not LIVE there is no track to change."""
    return after.route == CLIENT and before.state == LIVE and not same_media(before.spec, after.spec)


def _foreseen(change: _Change) -> "UpdateMethod.ValueType":
    """How it would be made; unset where a client decides."""
    method = method_of(change.before, change.after)
    return _UNKNOWN if method != NONE and change.before.route == CLIENT else method


def _stream_of(publication: Publication) -> Stream:
    """What is known of what its spec was completed from."""
    video = publication.spec.video
    if publication.type != VIDEO:
        return Stream(publication.type)
    return Stream(VIDEO, video.width, video.height, video.frames_per_second)
