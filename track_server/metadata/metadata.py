"""SetTrackMetadata, GetTrackMetadata and DeleteTrackMetadata."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from google.protobuf import struct_pb2

from track.v1 import publication_pb2
from track.v1.access_pb2 import Permission
from track.v1.event_pb2 import EventCause
from track.v1.metadata_pb2 import (
    DeleteTrackMetadataRequest,
    DeleteTrackMetadataResponse,
    GetTrackMetadataRequest,
    GetTrackMetadataResponse,
    OverwritePolicy,
    SetTrackMetadataRequest,
    SetTrackMetadataResponse,
    TrackMetadata,
)
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.deadline import Deadline
from track_server.errors import EtagMismatch, PublicationEnded, PublicationNotFound, StoreUnavailable, TrackNotFound
from track_server.etags import compare, new_etag
from track_server.livekit.api import LiveKitApi
from track_server.metadata.content import check_patch, merged, text_of
from track_server.metadata.keeper import Keeper
from track_server.metadata.record import NONE, RESTORE, Desired, absent, origin_of
from track_server.metadata.records import Publications, Records
from track_server.metadata.rules import Rules, expected
from track_server.metadata.showing import Showing
from track_server.metadata.target import Target
from track_server.metadata.view import View
from track_server.rooms.likeness import Likeness
from track_server.rooms.reading import look
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import RevisionConflict, StoreError

# What LiveKit's API knows is in the room a moment later.
_SHOWN_S = 3.0

AnyRequest = SetTrackMetadataRequest | GetTrackMetadataRequest | DeleteTrackMetadataRequest


class Metadata:
    """Answers them. What follows by itself is the keeper's."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        access: Access,
        publications: Publications,
        records: Records,
        rules: Rules,
        view: View,
        keeper: Keeper,
        showing: Showing,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._access = access
        self._publications = publications
        self._records = records
        self._rules = rules
        self._view = view
        self._keeper = keeper
        self._showing = showing

    async def set(
        self, principal: Principal, request: SetTrackMetadataRequest, deadline: Deadline, cause: EventCause
    ) -> SetTrackMetadataResponse:
        """Stores it, and waits until the publisher's attributes have it.

        Raises PermissionDenied, RoomNotFound, TrackNotFound, PublicationNotFound, PublicationEnded, EtagMismatch,
        InvalidField, SchemaViolation, LimitExceeded, StoreUnavailable.
        """
        async with self._rooms.watch(request.room) as live:
            async with self._turn(principal, live, request) as (target, known):
                desired = _changed(target, known, request)
                await self._check(live, target, desired, request)
                if request.validate_only:
                    # Its etag is made with the change.
                    shown = desired.message(target.sid, published=False)
                    shown.etag = _etag(known)
                    return SetTrackMetadataResponse(metadata=shown)
                if known is None or (known.metadata, known.policy) != (desired.metadata, desired.policy):
                    self._admit(live, desired)
                    desired = await self._put(desired, cause)
                else:
                    desired = known
            seen = await self._seen(live, desired, deadline)
            answer = SetTrackMetadataResponse(
                metadata=desired.message(self._view.sid_of(live, desired), published=seen),
                stage=publication_pb2.STAGE_OBSERVED if seen else publication_pb2.STAGE_REQUESTED,
            )
            if seen:
                answer.evidence = publication_pb2.EVIDENCE_ROOM
            return answer

    async def get(self, request: GetTrackMetadataRequest) -> GetTrackMetadataResponse:
        """Raises RoomNotFound, TrackNotFound, PublicationNotFound."""
        async with self._rooms.watch(request.room) as live:
            target = await self._target(live, request)
            if target.publication is None or target.publication.state != publication_pb2.PUBLICATION_STATE_ENDED:
                self._refuse_missing(target, request)
            return GetTrackMetadataResponse(metadata=self._message(live, target, self._known(target)))

    async def delete(
        self, principal: Principal, request: DeleteTrackMetadataRequest, deadline: Deadline, cause: EventCause
    ) -> DeleteTrackMetadataResponse:
        """Removes it, and waits until the publisher's attributes no longer have it. Raises as `set`."""
        async with self._rooms.watch(request.room) as live:
            async with self._turn(principal, live, request) as (target, known):
                before = self._message(live, target, known)
                if request.validate_only:
                    return DeleteTrackMetadataResponse(metadata=before)
                if known is not None and known.exists:
                    gone = replace(known, metadata=None, etag=new_etag(), update_ns=time.time_ns())
                    self._admit(live, gone)
                    await self._remove(target, known, gone, cause)
                else:
                    # A client, or a server that was killed, may have left something in the attributes.
                    gone = known or _first(target, None, RESTORE)
                    self._showing.publish(gone)
            seen = await self._seen(live, gone, deadline)
            self._keeper.settle(request.room)
            answer = DeleteTrackMetadataResponse(
                metadata=before, stage=publication_pb2.STAGE_OBSERVED if seen else publication_pb2.STAGE_REQUESTED
            )
            if seen:
                answer.evidence = publication_pb2.EVIDENCE_ROOM
            return answer

    @contextlib.asynccontextmanager
    async def _turn(
        self, principal: Principal, live: LiveRoom, request: SetTrackMetadataRequest | DeleteTrackMetadataRequest
    ) -> AsyncIterator[tuple[Target, Desired | None]]:
        """In the block nobody else changes the target's metadata: the target, and what is known of them.

        Whoever may not, or names what is not there or another etag, is refused.
        """
        target = await self._target(live, request)
        await self._access.require(principal, target.question(Permission.PERMISSION_WRITE_METADATA))
        self._refuse_missing(target, request)
        async with self._records.turn(request.room, self._key(target)):
            # It may have gone while another's turn lasted.
            target = await self._target(live, request)
            self._refuse_missing(target, request)
            known = self._known(target)
            compare(_etag(known), request.etag, "metadata", absent=NONE)
            yield target, known

    async def _target(self, live: LiveRoom, request: AnyRequest) -> Target:
        if request.WhichOneof("target") == "publication_id":
            publication = self._publications.find(live.name, request.publication_id)
            sid = publication.track_sid if publication is not None else ""
            return Target(live.name, publication, live.model.tracks.get(sid))
        sid = request.track_sid
        track = live.model.tracks.get(sid)
        if track is None and sid in (await look(self._api, live.name)).tracks:
            # It was published a moment ago.
            await live.until(lambda: sid in live.model.tracks, _SHOWN_S)
            track = live.model.tracks.get(sid)
        publication_id = track.publication_id if track is not None else ""
        publication = self._publications.find(live.name, publication_id) if publication_id else None
        return Target(live.name, publication, track)

    def _refuse_missing(self, target: Target, request: AnyRequest) -> None:
        if target.publication is not None:
            if target.publication.state == publication_pb2.PUBLICATION_STATE_ENDED:
                raise PublicationEnded("the publication has ended", field="publication_id")
        elif request.WhichOneof("target") == "publication_id":
            raise PublicationNotFound(f"no publication {request.publication_id!r} in the room", field="publication_id")
        elif target.track is None:
            raise TrackNotFound(f"no track {request.track_sid!r} in the room", field="track_sid")

    def _key(self, target: Target) -> str:
        if target.publication is not None:
            return target.publication.publication_id
        known = self._records.find_sid(target.room, target.sid)
        return known.key if known is not None else target.sid

    def _known(self, target: Target) -> Desired | None:
        if target.publication is not None:
            ended = target.publication.state == publication_pb2.PUBLICATION_STATE_ENDED
            return None if ended else self._records.of_publication(target.publication)
        return self._records.find_sid(target.room, target.sid)

    def _message(self, live: LiveRoom, target: Target, known: Desired | None) -> TrackMetadata:
        if known is None or not known.exists:
            publication_id = target.publication.publication_id if target.publication is not None else ""
            return absent(target.room, publication_id, target.sid, target.identity)
        return self._view.message(live, known)

    async def _check(self, live: LiveRoom, target: Target, desired: Desired, request: SetTrackMetadataRequest) -> None:
        field = request.WhichOneof("change") or ""
        track = target.track
        if track is None and target.publication is not None:
            track = expected(target.publication)
        if track is None or desired.metadata is None:
            raise TrackNotFound("the track is gone", field="track_sid")
        await self._rules.check(track, desired.metadata, field)
        if target.publication is None and target.sid not in live.model.tracks:
            raise TrackNotFound(f"track {target.sid!r} was unpublished meanwhile", field="track_sid")
        attributes, texts = self._after(live, desired)
        self._rules.fit(target.room, target.identity, attributes, texts, field)

    def _admit(self, live: LiveRoom, desired: Desired) -> None:
        attributes, texts = self._after(live, desired)
        self._rules.admit_change(desired.room, desired.likeness.participant_identity, attributes, texts)

    def _after(self, live: LiveRoom, desired: Desired) -> tuple[dict[str, str], dict[str, str]]:
        """The participant's attributes, and what this service will have in them, by SID."""
        identity = desired.likeness.participant_identity
        participant = live.model.participants.get(identity)
        texts = self._view.wanted(live, identity)
        if desired.metadata is not None:
            sid = self._view.sid_of(live, desired) or desired.track_sid or desired.key
            texts[sid] = text_of(desired.metadata)
        return (dict(participant.attributes) if participant is not None else {}), texts

    async def _put(self, desired: Desired, cause: EventCause) -> Desired:
        try:
            return await self._keeper.put(desired, cause)
        except RevisionConflict as error:
            known = self._records.find(desired.room, desired.key)
            current = _etag(known)
            raise EtagMismatch("the metadata was changed since", field="etag", metadata={"etag": current}) from error
        except StoreError as error:
            raise StoreUnavailable("the metadata cannot be stored now") from error

    async def _remove(self, target: Target, known: Desired, gone: Desired, cause: EventCause) -> None:
        # Where its spec has some, that would be there again.
        remembered = target.publication is not None and bool(origin_of(target.publication))
        try:
            await self._keeper.remove(known, gone, cause, remembered=remembered)
        except StoreError as error:
            raise StoreUnavailable("the metadata cannot be removed now") from error

    async def _seen(self, live: LiveRoom, desired: Desired, deadline: Deadline) -> bool:
        """Whether the room shows it by the deadline. Nobody waits for what cannot come."""

        def over() -> bool:
            return live.closed or self._view.published(live, desired) or not self._view.expects(live, desired)

        await live.until(over, deadline.remaining_s())
        return self._view.published(live, desired)


def _changed(target: Target, known: Desired | None, request: SetTrackMetadataRequest) -> Desired:
    """What is desired after the request."""
    metadata: struct_pb2.Struct
    if request.WhichOneof("change") == "replace":
        metadata = request.replace
    else:
        check_patch(request.merge_patch, "merge_patch")
        metadata = merged(known.metadata if known is not None else None, request.merge_patch)
    policy = request.overwrite_policy or (known.policy if known is not None else RESTORE)
    if known is not None:
        return replace(known, metadata=metadata, etag=new_etag(), update_ns=time.time_ns(), policy=policy)
    return _first(target, metadata, policy)


def _first(target: Target, metadata: struct_pb2.Struct | None, policy: "OverwritePolicy.ValueType") -> Desired:
    """What is desired of a track of which nothing was known."""
    publication = target.publication
    if publication is not None:
        key, likeness, origin = publication.publication_id, Likeness.of_publication(publication), origin_of(publication)
    else:
        assert target.track is not None
        key, likeness, origin = target.sid, Likeness.of(target.track), b""
    return Desired(
        room=target.room,
        key=key,
        likeness=likeness,
        metadata=metadata,
        etag=new_etag(),
        update_ns=time.time_ns(),
        policy=policy,
        track_sid=target.sid if publication is None else "",
        publication_id=publication.publication_id if publication is not None else "",
        origin=origin,
    )


def _etag(known: Desired | None) -> str:
    return known.etag if known is not None and known.exists else NONE
