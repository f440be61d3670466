"""What only a subscriber's client sees."""

from typing import Any

from track.v1 import subscription_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.interceptors.context import current_call
from track_server.subscription.states.reporting import StateReporting


class SubscriberReports(TrackServiceServicer):
    """See TrackService in the contract."""

    state_reporting: StateReporting

    async def ReportSubscriberState(
        self, request: pb.ReportSubscriberStateRequest, context: Any
    ) -> pb.ReportSubscriberStateResponse:
        return await self.state_reporting.report(current_call().caller, request)
