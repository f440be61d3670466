"""Tokens for one operation."""

from typing import Any

from track.v1 import token_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.track_tokens import TrackTokens
from track_server.interceptors.context import current_call


class OperationTokens(TrackServiceServicer):
    """See TrackService in the contract."""

    track_tokens: TrackTokens

    async def CreateTrackToken(self, request: pb.CreateTrackTokenRequest, context: Any) -> pb.CreateTrackTokenResponse:
        return await self.track_tokens.create(current_call().caller, request)
