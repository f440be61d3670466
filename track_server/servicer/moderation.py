"""Moderation: mute and unmute, blocks, and asking participants to unmute."""

from typing import Any

from track.v1 import event_pb2
from track.v1 import moderation_pb2 as moderation
from track.v1 import tracks_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.batch import fail_if_all_failed
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.moderation.asking import Questions
from track_server.moderation.lifting import Lifting
from track_server.moderation.mutes import Mutes


class Moderation(TrackServiceServicer):
    """See TrackService in the contract."""

    mutes: Mutes
    lifting: Lifting
    questions: Questions

    async def MuteTracks(self, request: pb.MuteTracksRequest, context: Any) -> pb.MuteTracksResponse:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        results = await self.mutes.mute(call.caller, request, deadline, _cause(request.reason))
        fail_if_all_failed(results)
        return pb.MuteTracksResponse(results=results)

    async def UnmuteTracks(self, request: pb.UnmuteTracksRequest, context: Any) -> pb.UnmuteTracksResponse:
        call = current_call()
        results = await self.mutes.unmute(call.caller, request, Deadline.after(call.remaining()), _cause())
        fail_if_all_failed(results)
        return pb.UnmuteTracksResponse(results=results)

    async def LiftModerationBlocks(
        self, request: moderation.LiftModerationBlocksRequest, context: Any
    ) -> moderation.LiftModerationBlocksResponse:
        results = await self.lifting.lift(current_call().caller, request, _cause())
        fail_if_all_failed(results)
        return moderation.LiftModerationBlocksResponse(results=results)

    async def ListModerationBlocks(
        self, request: moderation.ListModerationBlocksRequest, context: Any
    ) -> moderation.ListModerationBlocksResponse:
        return self.lifting.page(request)

    async def RequestUnmute(
        self, request: moderation.RequestUnmuteRequest, context: Any
    ) -> moderation.RequestUnmuteResponse:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        return await self.questions.ask(call.caller, request, deadline, _cause(request.reason))


def _cause(reason: str = "") -> event_pb2.EventCause:
    """The running call, as those who watch are told of it."""
    call = current_call()
    return cause_of(call.caller, request_id=call.request_id, reason=reason)
