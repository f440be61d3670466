"""Publications: publish, unpublish, get, list."""

from typing import Any

from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.publishing.publishing import Publishing


class Publications(TrackServiceServicer):
    """See TrackService in the contract."""

    publishing: Publishing

    async def PublishTrack(self, request: pb.PublishTrackRequest, context: Any) -> pb.PublishTrackResponse:
        call = current_call()
        return await self.publishing.publish(call.caller, request, call.operation_key, Deadline.after(call.remaining()))

    async def UnpublishTrack(self, request: pb.UnpublishTrackRequest, context: Any) -> pb.UnpublishTrackResponse:
        call = current_call()
        return await self.publishing.unpublish(call.caller, request, Deadline.after(call.remaining()))

    async def GetPublication(self, request: pb.GetPublicationRequest, context: Any) -> pb.GetPublicationResponse:
        return pb.GetPublicationResponse(publication=self.publishing.get(request.room, request.publication_id))

    async def ListPublications(self, request: pb.ListPublicationsRequest, context: Any) -> pb.ListPublicationsResponse:
        return self.publishing.list_page(request)
