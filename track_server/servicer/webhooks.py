"""Webhook subscriptions: create, list, delete."""

from typing import Any

from track.v1 import webhook_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.webhooks.webhooks import Webhooks


class WebhookSubscriptions(TrackServiceServicer):
    """See TrackService in the contract."""

    webhooks: Webhooks

    async def CreateWebhookSubscription(
        self, request: pb.CreateWebhookSubscriptionRequest, context: Any
    ) -> pb.CreateWebhookSubscriptionResponse:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        made = await self.webhooks.create(call.caller, request, call.operation_key, deadline)
        return pb.CreateWebhookSubscriptionResponse(subscription=made)

    async def ListWebhookSubscriptions(
        self, request: pb.ListWebhookSubscriptionsRequest, context: Any
    ) -> pb.ListWebhookSubscriptionsResponse:
        return await self.webhooks.page(request)

    async def DeleteWebhookSubscription(
        self, request: pb.DeleteWebhookSubscriptionRequest, context: Any
    ) -> pb.DeleteWebhookSubscriptionResponse:
        return pb.DeleteWebhookSubscriptionResponse(subscription=await self.webhooks.delete(request))
