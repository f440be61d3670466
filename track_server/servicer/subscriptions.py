"""Subscriptions: who receives what."""

from typing import Any

from track.v1 import subscription_pb2
from track.v1 import tracks_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.batch import fail_if_all_failed
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.subscription.listing import SubscriptionListing
from track_server.subscription.updates import SubscriptionUpdates


class Subscriptions(TrackServiceServicer):
    """See TrackService in the contract."""

    subscriptions: SubscriptionUpdates
    subscription_listing: SubscriptionListing

    async def UpdateSubscriptions(
        self, request: pb.UpdateSubscriptionsRequest, context: Any
    ) -> pb.UpdateSubscriptionsResponse:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        results = await self.subscriptions.apply(
            call.caller,
            request.room,
            request.updates,
            deadline,
            cause_of(call.caller, request_id=call.request_id),
            validate_only=request.validate_only,
            consistency_token=request.consistency_token,
        )
        fail_if_all_failed(results)
        return pb.UpdateSubscriptionsResponse(results=results)

    async def ListSubscriptions(
        self, request: subscription_pb2.ListSubscriptionsRequest, context: Any
    ) -> subscription_pb2.ListSubscriptionsResponse:
        return await self.subscription_listing.list(request)
