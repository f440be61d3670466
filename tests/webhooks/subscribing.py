"""Subscriptions for the tests, which do not outlive them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.track_process import Client
from track.v1 import webhook_pb2 as pb


@contextlib.asynccontextmanager
async def subscribed(client: Client, url: str, room: str = "", **options: Any) -> AsyncIterator[str]:
    """Events of the room go to the URL for the span of the block; gives the subscription's id."""
    request = pb.CreateWebhookSubscriptionRequest(room=room, url=url, **options)
    made = (await client.CreateWebhookSubscription(request, timeout=45)).subscription
    try:
        yield made.subscription_id
    finally:
        await delete(client, room, made.subscription_id)


async def delete(client: Client, room: str, subscription_id: str, **options: Any) -> pb.WebhookSubscription:
    """Ends it; as it was last."""
    request = pb.DeleteWebhookSubscriptionRequest(room=room, subscription_id=subscription_id, **options)
    return (await client.DeleteWebhookSubscription(request, timeout=45)).subscription


async def listed(client: Client, room: str = "") -> list[pb.WebhookSubscription]:
    """Those of the room."""
    request = pb.ListWebhookSubscriptionsRequest(room=room)
    return list((await client.ListWebhookSubscriptions(request, timeout=45)).subscriptions)
