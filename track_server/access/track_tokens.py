"""Tokens for one operation: LiveKit access tokens that are never wider than the rights of who asks for them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import jwt
from google.protobuf import duration_pb2, timestamp_pb2

from track.permission.v1 import permission_service_pb2
from track.v1 import access_pb2, server_info_pb2, token_pb2
from track.v1.access_pb2 import Permission, TrackOperation
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.access.access import Access
from track_server.access.bounds import UNBOUNDED, Bounds, Description
from track_server.access.operation import narrowing
from track_server.access.principal import Grants, Principal
from track_server.access.question import Question
from track_server.access.video_grants import beyond_reading, video_of
from track_server.durations import seconds_of
from track_server.errors import (
    InvalidField,
    PermissionDenied,
    PermissionServiceUnavailable,
    TrackError,
    Unauthenticated,
)

DEFAULT_TTL_S: Final = 600

PUBLISH: Final = TrackOperation.TRACK_OPERATION_PUBLISH

_TYPES: Final = {
    TrackSource.TRACK_SOURCE_CAMERA: TrackType.TRACK_TYPE_VIDEO,
    TrackSource.TRACK_SOURCE_MICROPHONE: TrackType.TRACK_TYPE_AUDIO,
    TrackSource.TRACK_SOURCE_SCREEN_SHARE: TrackType.TRACK_TYPE_VIDEO,
    TrackSource.TRACK_SOURCE_SCREEN_SHARE_AUDIO: TrackType.TRACK_TYPE_AUDIO,
}


class Issuer(Protocol):
    """Grants tokens in our place."""

    async def issue(
        self,
        principal: Principal,
        room: str,
        identity: str,
        operation: "TrackOperation.ValueType",
        grants: access_pb2.Grants,
        bounds: token_pb2.PublishBounds | None,
        ttl: duration_pb2.Duration,
    ) -> permission_service_pb2.IssueTrackTokenResponse | None:
        """What is granted, with a token or without one; None where it issues none. Raises PermissionDenied."""


class TrackTokens:
    """Answers CreateTrackToken. ``issuer``: grants them in our place, None: nobody does.

    ``sign``: makes a LiveKit token of claims. ``verify``: the principal of a token; raises Unauthenticated. ``clock``
    gives seconds since 1970 UTC. ``control_key``: told with every token, for the companion in its client.
    """

    def __init__(
        self,
        access: Access,
        issuer: Issuer | None,
        sign: Callable[[Mapping[str, Any]], str],
        verify: Callable[[str], Principal],
        *,
        control_key: server_info_pb2.ControlKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._control_key = control_key
        self._access = access
        self._issuer = issuer
        self._sign = sign
        self._verify = verify
        self._clock = clock

    async def create(
        self, principal: Principal, request: token_pb2.CreateTrackTokenRequest
    ) -> token_pb2.CreateTrackTokenResponse:
        """The token. Raises PermissionDenied, InvalidField."""
        identity = request.participant_identity or principal.identity
        if not identity:
            raise InvalidField("the caller's token names no participant: give one", field="participant_identity")
        _refuse_foreign_options(request)
        grants, bounds = await self._rights(principal, request, identity)
        bounds = bounds.within(Bounds.of(request.bounds))
        now = self._clock()
        expire = _expiry(now, seconds_of(request.ttl) or DEFAULT_TTL_S, principal.expire_time)
        made = Principal(identity, _heeding(grants, bounds), expire, operation=request.operation, bounds=bounds)
        issued = await self._issue(principal, made, request.room, int(expire - now))
        if isinstance(issued, Principal):
            return self._answer(issued, self._sign(_claims(issued, now)))
        return self._answer(self._checked(issued, made), issued)

    async def _issue(self, principal: Principal, made: Principal, room: str, ttl_s: int) -> Principal | str:
        """Whether the token may be made: as what, or the one that the issuer made. Raises PermissionDenied."""
        answer = None
        if self._issuer is not None:
            message = made.bounds.message() if made.bounds != UNBOUNDED else None
            answer = await self._issuer.issue(
                principal,
                room,
                made.identity,
                made.operation,
                made.message.grants,
                message,
                duration_pb2.Duration(seconds=ttl_s),
            )
        if answer is None:
            await self._access.require(principal, Question(Permission.PERMISSION_CREATE_TOKEN, room, made.identity))
            return made
        if answer.token:
            return answer.token
        bounds = made.bounds.within(Bounds.of(answer.obligations))
        return replace(made, grants=_heeding(made.grants, bounds), bounds=bounds)

    def _checked(self, token: str, wanted: Principal) -> Principal:
        """The principal of a token that the issuer made. It must be no wider than what was asked for."""
        try:
            found = self._verify(token)
        except Unauthenticated as error:
            raise PermissionServiceUnavailable("the permission service made a token that cannot be used") from error
        claims = jwt.decode(token, options={"verify_signature": False})  # verified a moment ago
        if beyond_reading(claims) or not _no_wider(found, wanted):
            raise PermissionServiceUnavailable("the permission service made a token that is wider than was asked for")
        return found

    async def _rights(
        self, principal: Principal, request: token_pb2.CreateTrackTokenRequest, identity: str
    ) -> tuple[Grants, Bounds]:
        """The grants of the token, which are the caller's own at most. Raises PermissionDenied."""
        room = request.room
        joining = Grants(room=room, room_join=True)
        match request.operation:
            case TrackOperation.TRACK_OPERATION_PUBLISH:
                return await self._publishing(principal, request, identity)
            case TrackOperation.TRACK_OPERATION_SUBSCRIBE:
                await self._access.require(principal, Question(Permission.PERMISSION_SUBSCRIBE, room, identity))
                return replace(joining, can_subscribe=True), UNBOUNDED
            case _:
                await self._access.admit(principal, Permission.PERMISSION_READ_TRACKS, room)
                return joining, UNBOUNDED

    async def _publishing(
        self, principal: Principal, request: token_pb2.CreateTrackTokenRequest, identity: str
    ) -> tuple[Grants, Bounds]:
        sources = request.sources or (() if request.data else tuple(_TYPES))
        described = [Description(type=_TYPES[source], source=source) for source in sources]
        if request.data:
            described.append(Description(type=TrackType.TRACK_TYPE_DATA))
        answers = await self._access.require_each(
            principal,
            [Question(Permission.PERMISSION_PUBLISH, request.room, identity, described=each) for each in described],
        )
        bounds = principal.bounds
        allowed = []
        for source, answer in zip(sources, answers, strict=False):
            if isinstance(answer, Bounds) and (answer.sources is None or source in answer.sources):
                allowed.append(source)
                bounds = bounds.within(answer)
            elif request.sources or not isinstance(answer, Bounds | PermissionDenied):
                raise _refusal(answer)
        if request.data and isinstance(answers[-1], TrackError):
            raise answers[-1]
        if not (allowed or request.data):
            raise _refusal(answers[0])
        grants = Grants(
            room=request.room,
            room_join=True,
            can_publish=bool(allowed),
            can_publish_sources=frozenset(allowed),
            can_publish_data=request.data,
        )
        return grants, replace(bounds, sources=None)

    def _answer(self, made: Principal, token: str) -> token_pb2.CreateTrackTokenResponse:
        response = token_pb2.CreateTrackTokenResponse(
            token=token,
            expire_time=timestamp_pb2.Timestamp(seconds=int(made.expire_time or 0)),
            participant_identity=made.identity,
            grants=made.message.grants,
            control_key=self._control_key,
        )
        if made.bounds != UNBOUNDED:
            response.bounds.CopyFrom(made.bounds.message())
        return response


def _refuse_foreign_options(request: token_pb2.CreateTrackTokenRequest) -> None:
    if request.operation == PUBLISH:
        return
    for field in ("sources", "data", "bounds"):
        if field in {descriptor.name for descriptor, _ in request.ListFields()}:
            raise InvalidField("only tokens for publishing have it", field=field)


def _heeding(grants: Grants, bounds: Bounds) -> Grants:
    """The grants without the sources that the bounds leave out, to which LiveKit too can hold a client.

    Raises PermissionDenied where the bounds leave nothing: an empty list would be read as no bound.
    """
    if bounds.codecs is not None and not bounds.codecs:
        raise PermissionDenied("the bounds leave no codec to publish with", field="bounds.codecs")
    if bounds.sources is None or not grants.can_publish:
        return grants
    left = grants.can_publish_sources & bounds.sources
    if not left:
        raise PermissionDenied("the bounds leave no source to publish", field="bounds.sources")
    return replace(grants, can_publish_sources=left)


def _expiry(now: float, ttl_s: float, callers: float | None) -> int:
    """When the token ends, in whole seconds since 1970 UTC: never after the caller's own."""
    wanted = now + ttl_s
    return int(wanted if callers is None else min(wanted, callers))


def _claims(made: Principal, now: float) -> dict[str, Any]:
    return {
        "sub": made.identity,
        "nbf": int(now),
        "exp": int(made.expire_time or 0),
        "video": video_of(made.grants),
        **narrowing(made.operation, made.bounds),
    }


def _no_wider(found: Principal, wanted: Principal) -> bool:
    """Whether a token grants nothing beyond another, and is for the same participant and operation."""
    ours, theirs = wanted.grants, found.grants
    return (
        found.identity == wanted.identity
        and found.operation == wanted.operation
        and theirs.room == ours.room
        and not (theirs.room_admin or theirs.room_list or theirs.room_create or theirs.room_record or theirs.agent)
        and theirs.can_publish <= ours.can_publish
        and (not theirs.can_publish or 0 < len(theirs.can_publish_sources) <= len(ours.can_publish_sources))
        and theirs.can_publish_sources <= ours.can_publish_sources
        and theirs.can_publish_data <= ours.can_publish_data
        and theirs.can_subscribe <= ours.can_subscribe
        and found.bounds.within(wanted.bounds) == found.bounds
        and (found.expire_time or 0) <= (wanted.expire_time or 0)
    )


def _refusal(answer: Bounds | TrackError) -> TrackError:
    if isinstance(answer, TrackError):
        return answer
    return PermissionDenied("the caller may not publish this source here", field="sources")
