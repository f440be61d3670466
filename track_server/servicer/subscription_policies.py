"""Standing rules about subscriptions, and what they would do."""

from typing import Any

from track.v1 import event_pb2
from track.v1 import subscription_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.interceptors.context import current_call
from track_server.subscription.explaining.explaining import Explaining
from track_server.subscription.policies.requests import PolicyRequests


class SubscriptionPolicies(TrackServiceServicer):
    """See TrackService in the contract."""

    subscription_policies: PolicyRequests
    explaining: Explaining

    async def SetSubscriptionPolicy(
        self, request: pb.SetSubscriptionPolicyRequest, context: Any
    ) -> pb.SetSubscriptionPolicyResponse:
        return await self.subscription_policies.set(request, _cause())

    async def GetSubscriptionPolicy(
        self, request: pb.GetSubscriptionPolicyRequest, context: Any
    ) -> pb.GetSubscriptionPolicyResponse:
        return self.subscription_policies.get(request)

    async def DeleteSubscriptionPolicy(
        self, request: pb.DeleteSubscriptionPolicyRequest, context: Any
    ) -> pb.DeleteSubscriptionPolicyResponse:
        return await self.subscription_policies.delete(request, _cause())

    async def ListSubscriptionPolicies(
        self, request: pb.ListSubscriptionPoliciesRequest, context: Any
    ) -> pb.ListSubscriptionPoliciesResponse:
        return self.subscription_policies.list_page(request)

    async def ExplainSubscriptions(
        self, request: pb.ExplainSubscriptionsRequest, context: Any
    ) -> pb.ExplainSubscriptionsResponse:
        return await self.explaining.explain(request)


def _cause() -> event_pb2.EventCause:
    """The running call, as those who watch are told of it."""
    call = current_call()
    return cause_of(call.caller, request_id=call.request_id)
