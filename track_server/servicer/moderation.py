"""Moderation: mute and unmute."""

from typing import Any

from track.v1 import tracks_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.batch import fail_if_all_failed
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.moderation.mutes import Mutes


class Moderation(TrackServiceServicer):
    """See TrackService in the contract."""

    mutes: Mutes

    async def MuteTracks(self, request: pb.MuteTracksRequest, context: Any) -> pb.MuteTracksResponse:
        return pb.MuteTracksResponse(results=await self._set_muted(request, muted=True))

    async def UnmuteTracks(self, request: pb.UnmuteTracksRequest, context: Any) -> pb.UnmuteTracksResponse:
        return pb.UnmuteTracksResponse(results=await self._set_muted(request, muted=False))

    async def _set_muted(
        self, request: pb.MuteTracksRequest | pb.UnmuteTracksRequest, *, muted: bool
    ) -> list[pb.MuteResult]:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        results = await self.mutes.set_muted(
            call.caller,
            request.room,
            request.tracks,
            muted=muted,
            deadline=deadline,
            validate_only=request.validate_only,
        )
        fail_if_all_failed(results)
        return results
