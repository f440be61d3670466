"""Set-, Get-, Delete- and ListSubscriptionPolicies."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from track.v1.event_pb2 import EventCause, PolicyChanged, PolicyKind, RoomEvent, RoomSnapshot
from track.v1.subscription_pb2 import (
    DeleteSubscriptionPolicyRequest,
    DeleteSubscriptionPolicyResponse,
    GetSubscriptionPolicyRequest,
    GetSubscriptionPolicyResponse,
    ListSubscriptionPoliciesRequest,
    ListSubscriptionPoliciesResponse,
    SetSubscriptionPolicyRequest,
    SetSubscriptionPolicyResponse,
    SubscriptionPolicy,
)
from track_server.lifetime import Closing, Tasks
from track_server.paging import page_of
from track_server.rooms.rooms import Rooms
from track_server.subscription.policies.checking import check
from track_server.subscription.policies.effective import effective
from track_server.subscription.policies.policies import Policies, not_found

_KIND: Final = PolicyKind.POLICY_KIND_SUBSCRIPTION_POLICY


class PolicyRequests(Closing):
    """Answers them, and tells the rooms of changes, `async with`. Who may was decided before: they are about the room
    as such. What has begun to be stored comes into force and is told, though its caller is gone."""

    def __init__(self, policies: Policies, rooms: Rooms) -> None:
        self._policies = policies
        self._rooms = rooms
        self._writes = Tasks()

    async def aclose(self) -> None:
        """Finishes what was begun. May be called twice."""
        await self._writes.settle()
        await self._writes.aclose()

    async def set(self, request: SetSubscriptionPolicyRequest, cause: EventCause) -> SetSubscriptionPolicyResponse:
        """Raises InvalidField, InvalidExpression, EtagMismatch, LimitExceeded, StoreUnavailable."""
        asked = SubscriptionPolicy()
        asked.CopyFrom(request.policy)
        await check(asked, request.room, request.participant_identity)
        creator = cause.principal_identity
        setting = partial(self._policies.set, asked, creator, request.etag, validate_only=request.validate_only)
        told = None if request.validate_only else PolicyChanged(kind=_KIND, name=request.participant_identity)
        return SetSubscriptionPolicyResponse(policy=await self._write(setting, told, cause))

    def get(self, request: GetSubscriptionPolicyRequest) -> GetSubscriptionPolicyResponse:
        """Raises SubscriptionPolicyNotFound."""
        identity = request.participant_identity
        room = self._policies.find(request.room, "")
        if not identity:
            if room is None:
                raise not_found("")
            return GetSubscriptionPolicyResponse(policy=room, effective=room)
        own = self._policies.find(request.room, identity)
        if own is None and room is None:
            raise not_found(identity)
        whole = effective(identity, own, room)
        return GetSubscriptionPolicyResponse(policy=own, effective=whole.policy, inherited=whole.inherited)

    async def delete(
        self, request: DeleteSubscriptionPolicyRequest, cause: EventCause
    ) -> DeleteSubscriptionPolicyResponse:
        """Raises SubscriptionPolicyNotFound, EtagMismatch, StoreUnavailable."""
        identity = request.participant_identity
        deleting = partial(
            self._policies.delete, request.room, identity, request.etag, validate_only=request.validate_only
        )
        told = None if request.validate_only else PolicyChanged(kind=_KIND, name=identity, removed=True)
        return DeleteSubscriptionPolicyResponse(policy=await self._write(deleting, told, cause))

    def list_page(self, request: ListSubscriptionPoliciesRequest) -> ListSubscriptionPoliciesResponse:
        """The room's first. Raises InvalidPageToken."""
        policies, token = page_of(
            self._policies.of(request.room),
            lambda policy: (policy.participant_identity,),
            size=request.page_size,
            token=request.page_token,
            query=("subscription_policies", request.room),
        )
        return ListSubscriptionPoliciesResponse(policies=policies, next_page_token=token)

    def contribute(self, room: str, snapshot: RoomSnapshot) -> None:
        """Fills in the snapshot's policies. See Rooms.contribute."""
        snapshot.subscription_policies.extend(self._policies.of(room))

    def happened(self, room: str, event: RoomEvent) -> None:
        """Listens to watched rooms."""
        if event.HasField("room_closed"):
            self._policies.closed(room)

    async def _write(
        self, work: Callable[[], Awaitable[SubscriptionPolicy]], told: PolicyChanged | None, cause: EventCause
    ) -> SubscriptionPolicy:
        """``told``: to those who watch the room, once it is done."""

        async def run() -> SubscriptionPolicy:
            policy = await work()
            if told is not None:
                self._rooms.announce(policy.room, RoomEvent(policy_changed=told, cause=cause))
            return policy

        return await asyncio.shield(self._writes.begin(run(), name="write subscription policy"))
