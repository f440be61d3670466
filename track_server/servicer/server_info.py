"""GetServerInfo: what this server is, and what the LiveKit server behind it can do."""

from typing import Any

from track.v1 import server_info_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.service_mode.access import ServiceAccess
from track_server.features import features
from track_server.health import Readiness
from track_server.rooms.rooms import Rooms


class ServerInformation(TrackServiceServicer):
    """See TrackService in the contract."""

    rooms: Rooms
    readiness: Readiness
    about: pb.GetServerInfoResponse
    """What does not change while the server runs."""
    debug_view: bool
    own_workers: int
    permissions: ServiceAccess | None
    """None unless a permission service decides."""

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Any) -> pb.GetServerInfoResponse:
        answer = pb.GetServerInfoResponse(watched_rooms=len(self.rooms))
        answer.MergeFrom(self.about)
        answer.livekit.reachable = self.readiness.reachable
        if self.permissions is not None:
            answer.permission_service.connected = self.permissions.connected
        if self.readiness.livekit is not None:
            answer.livekit.version = self.readiness.livekit.version
            answer.livekit.region = self.readiness.livekit.region
        answer.features.extend(
            features(answer.livekit.version, debug_view=self.debug_view, own_workers=self.own_workers)
        )
        return answer
