"""What quality is asked for, and what is done about it."""

from typing import Any

from track.v1 import event_pb2
from track.v1 import quality_policy_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.quality.acting.applying import HandActions
from track_server.quality.acting.listing import AdaptationListing
from track_server.quality.policies.requests import PolicyRequests


class QualityPolicies(TrackServiceServicer):
    """See TrackService in the contract."""

    quality_policies: PolicyRequests
    hand_actions: HandActions
    adaptation_listing: AdaptationListing

    async def SetQualityPolicy(self, request: pb.SetQualityPolicyRequest, context: Any) -> pb.SetQualityPolicyResponse:
        return await self.quality_policies.set(current_call().caller, request, _cause())

    async def GetQualityPolicy(self, request: pb.GetQualityPolicyRequest, context: Any) -> pb.GetQualityPolicyResponse:
        return await self.quality_policies.get(request)

    async def DeleteQualityPolicy(
        self, request: pb.DeleteQualityPolicyRequest, context: Any
    ) -> pb.DeleteQualityPolicyResponse:
        return await self.quality_policies.delete(request, _cause())

    async def ListQualityPolicies(
        self, request: pb.ListQualityPoliciesRequest, context: Any
    ) -> pb.ListQualityPoliciesResponse:
        return self.quality_policies.list_page(request)

    async def ApplyAdaptation(self, request: pb.ApplyAdaptationRequest, context: Any) -> pb.ApplyAdaptationResponse:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        return await self.hand_actions.apply(call.caller, request, deadline, _cause(request.reason))

    async def ListAdaptations(self, request: pb.ListAdaptationsRequest, context: Any) -> pb.ListAdaptationsResponse:
        return await self.adaptation_listing.page(request)


def _cause(reason: str = "") -> event_pb2.EventCause:
    """The running call, as those who watch are told of it."""
    call = current_call()
    return cause_of(call.caller, request_id=call.request_id, reason=reason)
