"""Focus: what is looked at."""

from typing import Any

from track.v1 import subscription_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.interceptors.context import current_call
from track_server.subscription.focus.requests import FocusRequests


class Focusing(TrackServiceServicer):
    """See TrackService in the contract."""

    focus: FocusRequests

    async def SetFocus(self, request: pb.SetFocusRequest, context: Any) -> pb.SetFocusResponse:
        call = current_call()
        cause = cause_of(call.caller, request_id=call.request_id)
        return pb.SetFocusResponse(focus=await self.focus.set(call.caller, request, cause))

    async def GetFocus(self, request: pb.GetFocusRequest, context: Any) -> pb.GetFocusResponse:
        return await self.focus.get(request)

    async def ClearFocus(self, request: pb.ClearFocusRequest, context: Any) -> pb.ClearFocusResponse:
        call = current_call()
        cause = cause_of(call.caller, request_id=call.request_id)
        return pb.ClearFocusResponse(focus=await self.focus.clear(call.caller, request, cause))
