"""Private tracks: who may subscribe."""

from typing import Any

from track.v1 import subscription_permission_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.private_tracks.permissions import SubscriptionPermissions


class TrackSubscriptionPermissions(TrackServiceServicer):
    """See TrackService in the contract."""

    subscription_permissions: SubscriptionPermissions

    async def SetTrackSubscriptionPermissions(
        self, request: pb.SetTrackSubscriptionPermissionsRequest, context: Any
    ) -> pb.SetTrackSubscriptionPermissionsResponse:
        call = current_call()
        cause = cause_of(call.caller, request_id=call.request_id)
        return await self.subscription_permissions.set(call.caller, request, Deadline.after(call.remaining()), cause)

    async def GetTrackSubscriptionPermissions(
        self, request: pb.GetTrackSubscriptionPermissionsRequest, context: Any
    ) -> pb.GetTrackSubscriptionPermissionsResponse:
        call = current_call()
        return await self.subscription_permissions.get(call.caller, request, Deadline.after(call.remaining()))

    async def ClearTrackSubscriptionPermissions(
        self, request: pb.ClearTrackSubscriptionPermissionsRequest, context: Any
    ) -> pb.ClearTrackSubscriptionPermissionsResponse:
        call = current_call()
        cause = cause_of(call.caller, request_id=call.request_id)
        return await self.subscription_permissions.clear(call.caller, request, Deadline.after(call.remaining()), cause)
