"""Webhook subscriptions: made, listed and deleted, and kept over restarts."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from track.v1 import webhook_pb2
from track.v1.access_pb2 import Permission
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.revocation import StandingEffect
from track_server.config.limits import LimitSettings
from track_server.deadline import Deadline
from track_server.errors import (
    InvalidExpression,
    LimitExceeded,
    LiveKitUnavailable,
    PermissionDenied,
    RoomNotFound,
    WebhookSubscriptionNotFound,
)
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.paging import page_of
from track_server.rooms.rooms import Rooms
from track_server.store.records import Store
from track_server.webhooks.deliveries import Deliveries
from track_server.webhooks.positions import Place, Position, Positions
from track_server.webhooks.subscription import Subscription
from track_server.webhooks.tallies import forget_all_but
from track_server.webhooks.targets import Targets

log = structlog.get_logger(__name__)

_KIND: Final = "webhook_subscription"
_MANAGE: Final = Permission.PERMISSION_MANAGE_WEBHOOKS
# Rooms that are joined at the same time, to know where a new subscription begins in them.
_JOINING: Final = 16


class Webhooks(Closing):
    """Answers the RPCs of webhook subscriptions, `async with`. What was begun is finished though its caller is gone."""

    def __init__(
        self,
        store: Store,
        api: LiveKitApi,
        rooms: Rooms,
        targets: Targets,
        positions: Positions,
        deliveries: Deliveries,
        limits: LimitSettings,
    ) -> None:
        self._store = store
        self._api = api
        self._rooms = rooms
        self._targets = targets
        self._positions = positions
        self._deliveries = deliveries
        self._limits = limits
        self._subscriptions: dict[str, Subscription] = {}
        """By id, oldest first."""
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Finishes what was begun. May be called twice."""
        await self._tasks.settle()
        await self._tasks.aclose()

    async def restore(self) -> None:
        """Goes on with what an earlier run left. Raises StoreError."""
        positions: defaultdict[str, dict[str, Position]] = defaultdict(dict)
        for place, position in (await self._positions.load()).items():
            positions[place.subscription_id][place.room] = position
        known = set()
        for record in await self._store.list(_KIND):
            known.add(record.key)
            try:
                subscription = Subscription.decode(record.body)
            except InvalidExpression as error:
                log.warning("webhook_subscription_unreadable", subscription_id=record.key, reason=error.message)
                continue
            self._subscriptions[subscription.id] = subscription
            await self._deliveries.begin(subscription, positions[subscription.id])
        # Of those that were not made, or not deleted, to the end.
        for subscription_id in positions.keys() - known:
            for room in positions[subscription_id]:
                await self._positions.forget(Place(subscription_id, room))
        await forget_all_but(self._store, known)

    async def create(
        self,
        principal: Principal,
        request: webhook_pb2.CreateWebhookSubscriptionRequest,
        operation_key: str,
        deadline: Deadline,
    ) -> webhook_pb2.WebhookSubscription:
        """The subscription, once it is stored and what happens later will be sent. One ``operation_key`` makes one.

        Raises InvalidField, InvalidExpression, DestinationNotAllowed, LimitExceeded, LiveKitUnavailable, StoreError.
        """
        self._targets.checked(request.url)
        message = webhook_pb2.WebhookSubscription(
            room=request.room,
            url=request.url,
            kinds=request.kinds,
            filter=request.filter,
            creator_identity=principal.identity,
        )
        subscription = Subscription.of(message, principal)
        if not request.validate_only:
            message.subscription_id = _id(operation_key)
            message.create_time.GetCurrentTime()
            if (made := self._subscriptions.get(subscription.id)) is not None:
                return await self._deliveries.shown(made)
        self._refuse_too_many(principal, request.room)
        if request.validate_only:
            return subscription.shown()
        # Counted from now on, so that of calls at the same time only one gets the last place.
        self._subscriptions[subscription.id] = subscription
        await asyncio.shield(self._tasks.begin(self._make(subscription, deadline), name="make a subscription"))
        return await self._deliveries.shown(subscription)

    async def page(
        self, request: webhook_pb2.ListWebhookSubscriptionsRequest
    ) -> webhook_pb2.ListWebhookSubscriptionsResponse:
        """A page of those of the room, or of those of all rooms. Raises InvalidPageToken, StoreError."""
        found, token = page_of(
            self._of(request.room),
            lambda subscription: (subscription.message.create_time.ToNanoseconds(), subscription.id),
            size=request.page_size,
            token=request.page_token,
            query=["webhook subscriptions", request.room],
        )
        shown = [await self._deliveries.shown(subscription) for subscription in found]
        return webhook_pb2.ListWebhookSubscriptionsResponse(subscriptions=shown, next_page_token=token)

    async def delete(self, request: webhook_pb2.DeleteWebhookSubscriptionRequest) -> webhook_pb2.WebhookSubscription:
        """Ends it; returns it as it was last. Raises WebhookSubscriptionNotFound, StoreError."""
        subscription = self._subscriptions.get(request.subscription_id)
        if subscription is None or subscription.room != request.room:
            raise WebhookSubscriptionNotFound("the room has no such webhook subscription", field="subscription_id")
        if request.validate_only:
            return await self._deliveries.shown(subscription)
        return await self._end(subscription)

    def standing(self) -> Iterable[StandingEffect]:
        """See Revocation.add: a subscription rests on its maker's permission."""
        return [
            StandingEffect(subscription.principal, Question(_MANAGE, subscription.room), self._ending(subscription))
            for subscription in self._subscriptions.values()
        ]

    def _ending(self, subscription: Subscription) -> Callable[[PermissionDenied], Awaitable[None]]:
        async def end(error: PermissionDenied) -> None:
            if subscription.id in self._subscriptions:
                await self._end(subscription)

        return end

    async def _end(self, subscription: Subscription) -> webhook_pb2.WebhookSubscription:
        del self._subscriptions[subscription.id]
        work = self._unmake(subscription)
        return await asyncio.shield(self._tasks.begin(work, name="end a subscription"))

    async def _make(self, subscription: Subscription, deadline: Deadline) -> None:
        try:
            positions = await self._here(subscription.room, deadline)
            for room, position in positions.items():
                await self._positions.save(Place(subscription.id, room), position, now=0.0)
            await self._store.put(_KIND, subscription.room, subscription.id, subscription.encode())
            await self._deliveries.begin(subscription, positions)
        except BaseException:
            del self._subscriptions[subscription.id]
            raise

    async def _unmake(self, subscription: Subscription) -> webhook_pb2.WebhookSubscription:
        try:
            await self._store.delete(_KIND, subscription.room, subscription.id)
        except BaseException:
            self._subscriptions[subscription.id] = subscription
            raise
        return await self._deliveries.end(subscription)

    async def _here(self, room: str, deadline: Deadline) -> dict[str, Position]:
        """Where the rooms are that exist already: what was before is not sent. Raises LiveKitUnavailable."""
        joining = asyncio.Semaphore(_JOINING)

        async def position(name: str) -> tuple[str, Position | None]:
            try:
                async with asyncio.timeout(deadline.remaining_s()), joining, self._rooms.watch(name) as live:
                    return name, Position(live.log.text)
            except RoomNotFound:
                return name, None
            except TimeoutError:
                # It begins where the room is when it is seen.
                return name, Position()
            except LiveKitUnavailable:
                # One of all, which may be about to end, does not keep the others from being told of.
                if room:
                    raise
                return name, Position()

        names = await self._api.find_rooms([room] if room else [])
        found = await asyncio.gather(*map(position, names))
        return {name: where for name, where in found if where is not None}

    def _of(self, room: str) -> list[Subscription]:
        return [found for found in self._subscriptions.values() if found.room == room]

    def _refuse_too_many(self, principal: Principal, room: str) -> None:
        limits = self._limits
        if len(self._subscriptions) >= limits.max_webhook_subscriptions:
            raise LimitExceeded("max_webhook_subscriptions", limits.max_webhook_subscriptions, "server")
        if len(self._of(room)) >= limits.max_webhook_subscriptions_per_room:
            subject = f"room {room}" if room else "all rooms"
            raise LimitExceeded(
                "max_webhook_subscriptions_per_room", limits.max_webhook_subscriptions_per_room, subject
            )
        own = [found for found in self._subscriptions.values() if found.principal.scope == principal.scope]
        if len(own) >= limits.max_webhook_subscriptions_per_principal:
            raise LimitExceeded(
                "max_webhook_subscriptions_per_principal",
                limits.max_webhook_subscriptions_per_principal,
                f"principal {principal.identity}",
            )


def _id(operation_key: str) -> str:
    """Id of the subscription that an operation asks for: one operation makes one."""
    return f"WHS_{hashlib.blake2b(operation_key.encode(), digest_size=10).hexdigest()}"
