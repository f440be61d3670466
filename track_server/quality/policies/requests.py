"""Set-, Get-, Delete- and ListQualityPolicies."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from track.v1.event_pb2 import EventCause, PolicyChanged, PolicyKind, RoomEvent
from track.v1.quality_policy_pb2 import (
    DeleteQualityPolicyRequest,
    DeleteQualityPolicyResponse,
    GetQualityPolicyRequest,
    GetQualityPolicyResponse,
    ListQualityPoliciesRequest,
    ListQualityPoliciesResponse,
    QualityPolicy,
    SetQualityPolicyRequest,
    SetQualityPolicyResponse,
)
from track.v1.track_pb2 import Track
from track_server.access.principal import Principal
from track_server.errors import RoomNotFound
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.paging import Position, page_of
from track_server.quality.abilities import Abilities
from track_server.quality.policies.checking import LAYER_LIMITS, RESTART, checked, name_of, refuse_of_sound
from track_server.quality.policies.policies import Policies, not_found
from track_server.rooms.causes import rule_cause
from track_server.rooms.reading import Reader, track_of
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

_KIND: Final = PolicyKind.POLICY_KIND_QUALITY_POLICY
_ALLOWED: Final = "policy.allowed_actions"
TRACK_GONE: Final = "track_gone"
"""Rule: what is said of a track ends with it."""


class PolicyRequests(Closing):
    """Answers them, and tells the rooms of changes, `async with`. Who may was decided before. What has begun to be
    stored comes into force and is told, though its caller is gone."""

    def __init__(self, policies: Policies, rooms: Rooms, reader: Reader, api: LiveKitApi, abilities: Abilities) -> None:
        self._policies = policies
        self._rooms = rooms
        self._reader = reader
        self._api = api
        self._abilities = abilities
        self._writes = Tasks()
        policies.ended(self._ended)

    async def aclose(self) -> None:
        """Finishes what was begun. May be called twice."""
        await self._writes.settle()
        await self._writes.aclose()

    async def set(
        self, principal: Principal, request: SetQualityPolicyRequest, cause: EventCause
    ) -> SetQualityPolicyResponse:
        """Raises InvalidField, NotSupported, RoomNotFound and TrackNotFound of a track, EtagMismatch, LimitExceeded,
        StoreUnavailable, LiveKitUnavailable."""
        room = request.room
        policy = checked(request.policy, room, request.participant_identity, request.track_sid)
        if not request.track_sid:
            await self._refuse_of_participant(policy)
            kept = await self._keep(principal, request, policy, cause)
            return SetQualityPolicyResponse(policy=kept)
        async with self._rooms.watch(room) as live:
            track = await track_of(self._api, live, request.track_sid, "track_sid")
            refuse_of_sound(policy, track)
            if RESTART in policy.allowed_actions:
                publisher = live.model.participants.get(track.participant_identity)
                await self._abilities.require_restart(room, publisher, track.sid, _ALLOWED)
            kept = await self._keep(principal, request, policy, cause, (live, track))
            return SetQualityPolicyResponse(policy=kept)

    async def get(self, request: GetQualityPolicyRequest) -> GetQualityPolicyResponse:
        """Raises QualityPolicyNotFound, and LiveKitUnavailable where it is not known whose the track is."""
        room, identity, track_sid = request.room, request.participant_identity, request.track_sid
        own = self._policies.find(room, identity, track_sid)
        effective = own or self._policies.holding(room, identity or await self._publisher(room, track_sid), track_sid)
        if effective is None:
            raise not_found(identity, track_sid)
        return GetQualityPolicyResponse(policy=own, effective=effective)

    async def delete(self, request: DeleteQualityPolicyRequest, cause: EventCause) -> DeleteQualityPolicyResponse:
        """Raises QualityPolicyNotFound, EtagMismatch, StoreUnavailable."""
        room, identity, track_sid = request.room, request.participant_identity, request.track_sid
        deleting = partial(
            self._policies.delete, room, identity, track_sid, request.etag, validate_only=request.validate_only
        )
        told = None if request.validate_only else _told(identity, track_sid, removed=True)
        return DeleteQualityPolicyResponse(policy=await self._write(deleting, told, cause))

    def list_page(self, request: ListQualityPoliciesRequest) -> ListQualityPoliciesResponse:
        """The room's first, then those of participants, then those of tracks. Raises InvalidPageToken."""
        policies, token = page_of(
            self._policies.of(request.room),
            _position,
            size=request.page_size,
            token=request.page_token,
            query=("quality_policies", request.room),
        )
        return ListQualityPoliciesResponse(policies=policies, next_page_token=token)

    async def _refuse_of_participant(self, policy: QualityPolicy) -> None:
        """Raises NotSupported where the participant is there, and something allowed cannot be done for it."""
        identity, allowed = policy.participant_identity, policy.allowed_actions
        limits = [kind for kind in allowed if kind in LAYER_LIMITS]
        if not identity or not (limits or RESTART in allowed):
            return
        try:
            participant = await self._reader.participant(policy.room, identity)
        except RoomNotFound:
            participant = None
        if participant is None:
            return
        if limits:
            await self._abilities.require_layers(policy.room, participant, name_of(limits[0]), _ALLOWED)
        if RESTART in allowed:
            await self._abilities.require_restart(policy.room, participant, "", _ALLOWED)

    async def _publisher(self, room: str, track_sid: str) -> str:
        """Whose track it is; empty where it is not there, or has none of which a policy speaks."""
        if not track_sid or not self._policies.concerns(room):
            return ""
        try:
            view = await self._reader.view(room)
        except RoomNotFound:
            return ""
        track = view.model.tracks.get(track_sid)
        return track.participant_identity if track is not None else ""

    async def _keep(
        self,
        principal: Principal,
        request: SetQualityPolicyRequest,
        policy: QualityPolicy,
        cause: EventCause,
        track: tuple[LiveRoom, Track] | None = None,
    ) -> QualityPolicy:
        setting = partial(
            self._policies.set, policy, principal, request.etag, track=track, validate_only=request.validate_only
        )
        told = None
        if not request.validate_only:
            told = _told(request.participant_identity, request.track_sid)
        return await self._write(setting, told, cause)

    async def _write(
        self, work: Callable[[], Awaitable[QualityPolicy]], told: PolicyChanged | None, cause: EventCause
    ) -> QualityPolicy:
        """``told``: to those who watch the room, once it is done."""

        async def run() -> QualityPolicy:
            policy = await work()
            if told is not None:
                self._rooms.announce(policy.room, RoomEvent(policy_changed=told, cause=cause))
            return policy

        return await asyncio.shield(self._writes.begin(run(), name="write quality policy"))

    def _ended(self, policy: QualityPolicy) -> None:
        """A policy is over with its track."""
        told = _told("", policy.track_sid, removed=True)
        self._rooms.announce(policy.room, RoomEvent(policy_changed=told, cause=rule_cause(TRACK_GONE)))


def _told(identity: str, track_sid: str, *, removed: bool = False) -> PolicyChanged:
    return PolicyChanged(kind=_KIND, name=f"track/{track_sid}" if track_sid else identity, removed=removed)


def _position(policy: QualityPolicy) -> Position:
    if policy.track_sid:
        return 2, policy.track_sid
    return (1, policy.participant_identity) if policy.participant_identity else (0, "")
