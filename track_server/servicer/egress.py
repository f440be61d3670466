"""Recordings, and the rules that start them."""

from typing import Any

from track.v1 import egress_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.deadline import Deadline
from track_server.egress.requests import Caller, EgressCalls
from track_server.egress.rules import EgressRules
from track_server.interceptors.context import current_call


class TrackRecordings(TrackServiceServicer):
    """See TrackService in the contract."""

    egress: EgressCalls
    egress_rules: EgressRules

    async def StartTrackEgress(self, request: pb.StartTrackEgressRequest, context: Any) -> pb.StartTrackEgressResponse:
        return await self.egress.start(_caller(), request, Deadline.after(current_call().remaining()))

    async def StopTrackEgress(self, request: pb.StopTrackEgressRequest, context: Any) -> pb.StopTrackEgressResponse:
        return await self.egress.stop(_caller(), request, Deadline.after(current_call().remaining()))

    async def GetTrackEgress(self, request: pb.GetTrackEgressRequest, context: Any) -> pb.GetTrackEgressResponse:
        return await self.egress.get(request)

    async def ListTrackEgress(self, request: pb.ListTrackEgressRequest, context: Any) -> pb.ListTrackEgressResponse:
        return self.egress.list_page(request)

    async def SetEgressRule(self, request: pb.SetEgressRuleRequest, context: Any) -> pb.SetEgressRuleResponse:
        return await self.egress_rules.set(_caller(), request)

    async def DeleteEgressRule(self, request: pb.DeleteEgressRuleRequest, context: Any) -> pb.DeleteEgressRuleResponse:
        return await self.egress_rules.delete(_caller(), request)

    async def ListEgressRules(self, request: pb.ListEgressRulesRequest, context: Any) -> pb.ListEgressRulesResponse:
        return self.egress_rules.list_page(request)


def _caller() -> Caller:
    call = current_call()
    return Caller(call.caller, call.request_id, call.operation_key)
