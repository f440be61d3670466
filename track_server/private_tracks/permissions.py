"""The commands about private tracks: say, show and forget who may subscribe."""

from dataclasses import dataclass

from track.v1 import access_pb2, event_pb2, track_pb2
from track.v1 import publication_pb2 as publications
from track.v1 import subscription_permission_pb2 as pb
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.deadline import Deadline
from track_server.errors import NotForDataTracks, PublicationEnded, PublicationNotFound, TrackError, TrackNotFound
from track_server.private_tracks.consistency import token_of
from track_server.private_tracks.enforcement import Enforcement
from track_server.private_tracks.keeper import Means
from track_server.private_tracks.rule import Rule
from track_server.private_tracks.standing import ENFORCED, REFUSED_HERE_ONLY, WATCHED
from track_server.private_tracks.subjects import Target, find_target, refuse_inexpressible
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom, now

_Request = (
    pb.SetTrackSubscriptionPermissionsRequest
    | pb.GetTrackSubscriptionPermissionsRequest
    | pb.ClearTrackSubscriptionPermissionsRequest
)


@dataclass(frozen=True, slots=True)
class _Present:
    """Who is in the room: everybody, and of them the identities that callers are told of."""

    participants: dict[str, track_pb2.Participant]
    shown: frozenset[str]


class SubscriptionPermissions:
    """Answers Set-, Get- and ClearTrackSubscriptionPermissions.

    Each raises RoomNotFound, PermissionDenied, TrackNotFound, PublicationNotFound and LiveKitUnavailable. Who may not
    act on everybody is told PermissionDenied for what does not exist, as for what is another's.
    """

    def __init__(self, means: Means, enforcement: Enforcement, access: Access) -> None:
        self._means = means
        self._enforcement = enforcement
        self._access = access

    async def set(
        self,
        principal: Principal,
        request: pb.SetTrackSubscriptionPermissionsRequest,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> pb.SetTrackSubscriptionPermissionsResponse:
        """Stores the rule, and waits for it to be kept. ``cause``: the call, to those who watch.

        Raises InvalidField, InvalidOptions, InvalidExpression, PublicationEnded, NotForDataTracks.
        """
        rule = Rule(request.rule)
        async with self._means.rooms.watch(request.room) as live:
            target = await self._target(principal, live, request)
            _refuse_what_cannot_be_kept(target)
            rule.refuse_publisher(target.subject.participant_identity)
            refuse_inexpressible(target, rule, self._means.book, self._means.restrictions)
            if request.validate_only:
                return await self._would_set(live, target, rule)
            restriction = await self._means.restrictions.set(target.key, rule)
            keeper = self._enforcement.keeper(request.room)
            keeper.attribute(restriction, cause)

            def settled() -> bool:
                replaced = self._means.restrictions.find(target.key) is not restriction
                standing = keeper.standing(restriction)
                return replaced or (standing is not None and standing.settled)

            await self._enforcement.until(request.room, settled, deadline)
            token = token_of(request.room, restriction.revision)
            standing = keeper.standing(restriction)
            if standing is None:
                # Nobody has looked at the room in time, or the rule was replaced meanwhile.
                stored = _permissions(target, rule, REFUSED_HERE_ONLY)
                stored.update_time.CopyFrom(restriction.update_time)
                return pb.SetTrackSubscriptionPermissionsResponse(
                    permissions=stored, stage=publications.STAGE_REQUESTED, consistency_token=token
                )
            stage, evidence = standing.stage()
            return pb.SetTrackSubscriptionPermissionsResponse(
                permissions=standing.message(),
                stage=stage,
                evidence=evidence,
                unsubscribed_identities=sorted(standing.asked),
                consistency_token=token,
            )

    async def get(
        self, principal: Principal, request: pb.GetTrackSubscriptionPermissionsRequest, deadline: Deadline
    ) -> pb.GetTrackSubscriptionPermissionsResponse:
        """How it is. Raises InvalidConsistencyToken, ConsistencyNotReached."""
        async with self._means.rooms.watch(request.room) as live:
            target = await self._target(principal, live, request)
            await self._means.restrictions.reached(request.consistency_token, request.room, deadline)
            present = await self._present(live)
            revision = self._means.restrictions.revision
            # That of a publication which has just ended may still be there.
            restriction = None if target.ended else self._means.restrictions.find(target.key)
            if restriction is None:
                shown = _permissions(target)
                others = present.shown - {target.subject.participant_identity}
                shown.allowed_identities.extend([] if target.ended else sorted(others))
            else:
                standing = self._enforcement.keeper(request.room).standing(restriction)
                level = standing.level if standing is not None else REFUSED_HERE_ONLY
                shown = _permissions(target, restriction.rule, level)
                shown.update_time.CopyFrom(restriction.update_time)
                shown.allowed_identities.extend(_allowed(restriction.rule, target, present))
            return pb.GetTrackSubscriptionPermissionsResponse(
                permissions=shown, consistency_token=token_of(request.room, revision)
            )

    async def clear(
        self,
        principal: Principal,
        request: pb.ClearTrackSubscriptionPermissionsRequest,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> pb.ClearTrackSubscriptionPermissionsResponse:
        """Forgets the rule, and waits for the hosted session to have told LiveKit. ``cause``: as in ``set``."""
        async with self._means.rooms.watch(request.room) as live:
            target = await self._target(principal, live, request)
            refuse_inexpressible(target, None, self._means.book, self._means.restrictions)
            shown = _permissions(target)
            if not target.ended:
                present = await self._present(live)
                shown.allowed_identities.extend(sorted(present.shown - {target.subject.participant_identity}))
            if request.validate_only:
                return pb.ClearTrackSubscriptionPermissionsResponse(permissions=shown)
            had = self._means.restrictions.find(target.key) is not None
            revision = await self._means.restrictions.clear(target.key)
            shown.update_time.CopyFrom(now())
            if had:
                event = event_pb2.RoomEvent(subscription_permissions_changed=shown, cause=cause)
                self._means.rooms.announce(request.room, event)
            stage = publications.STAGE_REQUESTED
            if had and target.subject.hosted and await self._opened(target, deadline):
                stage = publications.STAGE_ACKNOWLEDGED
            return pb.ClearTrackSubscriptionPermissionsResponse(
                permissions=shown, stage=stage, consistency_token=token_of(request.room, revision)
            )

    async def _opened(self, target: Target, deadline: Deadline) -> bool:
        """Waits until LiveKit was told that everybody may; says whether it was, which takes a session with a worker."""
        key, identity = target.key, target.subject.participant_identity

        def opened() -> bool:
            session = self._means.sessions.find(key.room, identity)
            told = session.audience if session is not None else None
            return told is not None and key.publication_id not in told.restricted

        def over() -> bool:
            gone = self._means.sessions.find(key.room, identity) is None
            return gone or opened() or self._means.restrictions.find(key) is not None

        self._enforcement.kick(key.room)
        await self._enforcement.until(key.room, over, deadline)
        return opened()

    # What is asked for.

    async def _target(self, principal: Principal, live: LiveRoom, request: _Request) -> Target:
        """The track, once the principal may act on it."""
        target = find_target(live, self._means.book, request.track_sid, request.publication_id)
        question = Question(
            access_pb2.PERMISSION_RESTRICT_TRACK,
            live.name,
            target.subject.participant_identity if target is not None else "",
            request.track_sid or (target.subject.track_sid if target is not None else ""),
            target.described if target is not None else None,
        )
        await self._access.require(principal, question)
        if target is not None:
            return target
        if request.publication_id:
            raise PublicationNotFound(f"no publication {request.publication_id!r} in the room", field="publication_id")
        raise TrackNotFound(f"no track {request.track_sid!r} in the room", field="track_sid")

    async def _present(self, live: LiveRoom) -> _Present:
        known = dict(live.model.participants) if live.current else {}
        listed = await roster(self._means.api, live.name)
        everybody = {**listed.participants, **known}
        return _Present(everybody, frozenset(everybody) - listed.hidden)

    async def _would_set(
        self, live: LiveRoom, target: Target, rule: Rule
    ) -> pb.SetTrackSubscriptionPermissionsResponse:
        present = await self._present(live)
        allowed = _allowed(rule, target, present)
        answer = pb.SetTrackSubscriptionPermissionsResponse(permissions=_permissions(target, rule))
        answer.permissions.allowed_identities.extend(allowed)
        if target.subject.hosted:
            answer.permissions.enforcement = ENFORCED
        else:
            answer.permissions.enforcement = WATCHED if await self._debug_readable(live.name) else REFUSED_HERE_ONLY
            answer.unsubscribed_identities.extend(
                sorted(present.shown - set(allowed) - {target.subject.participant_identity})
            )
        return answer

    async def _debug_readable(self, room: str) -> bool:
        if self._means.debug is None:
            return False
        try:
            await self._means.debug.down_tracks(room)
        except TrackError:
            return False
        return True


def _refuse_what_cannot_be_kept(target: Target) -> None:
    if target.ended:
        raise PublicationEnded("the publication has ended", field="publication_id")
    if target.subject.type == track_pb2.TRACK_TYPE_DATA and not target.subject.hosted:
        raise NotForDataTracks(
            "LiveKit's server cannot unsubscribe anybody from a data track; only its publisher can restrict it",
            field="track_sid",
        )


def _permissions(
    target: Target,
    rule: Rule | None = None,
    level: pb.SubscriptionEnforcement.ValueType = pb.SUBSCRIPTION_ENFORCEMENT_UNSPECIFIED,
) -> pb.TrackSubscriptionPermissions:
    return pb.TrackSubscriptionPermissions(
        room=target.key.room,
        track_sid=target.subject.track_sid,
        publication_id=target.key.publication_id,
        rule=rule.message if rule is not None else None,
        enforcement=level,
    )


def _allowed(rule: Rule, target: Target, present: _Present) -> list[str]:
    """Who is in the room and may, in order; hidden ones and the publisher left out."""
    allowed = rule.allowed(present.participants.values())
    return sorted((allowed & present.shown) - {target.subject.participant_identity})
