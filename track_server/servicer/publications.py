"""Publications: publish, change, restart, feed, unpublish, get, list."""

from collections.abc import AsyncIterator
from typing import Any

from track.v1 import event_pb2, publication_update_pb2, push_pb2
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.deadline import Deadline
from track_server.interceptors.context import Call, current_call
from track_server.moderation.unpublishing import Unpublishing
from track_server.publishing.publishing import Publishing
from track_server.publishing.push.pushes import Pushes
from track_server.publishing.restarting.restarts import Restarts
from track_server.publishing.updates import PublicationUpdates


class Publications(TrackServiceServicer):
    """See TrackService in the contract."""

    publishing: Publishing
    updates: PublicationUpdates
    restarts: Restarts
    pushes: Pushes
    unpublishing: Unpublishing

    async def PublishTrack(self, request: pb.PublishTrackRequest, context: Any) -> pb.PublishTrackResponse:
        call = current_call()
        deadline = Deadline.after(call.remaining())
        return await self.publishing.publish(call.caller, request, call.operation_key, deadline, _cause(call))

    async def UnpublishTrack(self, request: pb.UnpublishTrackRequest, context: Any) -> pb.UnpublishTrackResponse:
        call = current_call()
        by_sid = self.unpublishing if request.track_sid else self.publishing
        return await by_sid.unpublish(call.caller, request, Deadline.after(call.remaining()), _cause(call))

    async def UpdatePublication(
        self, request: publication_update_pb2.UpdatePublicationRequest, context: Any
    ) -> publication_update_pb2.UpdatePublicationResponse:
        call = current_call()
        return await self.updates.update(call.caller, request, Deadline.after(call.remaining()), _cause(call))

    async def RestartTrack(
        self, request: publication_update_pb2.RestartTrackRequest, context: Any
    ) -> publication_update_pb2.RestartTrackResponse:
        call = current_call()
        return await self.restarts.restart(call.caller, request, Deadline.after(call.remaining()), _cause(call))

    async def PushMedia(
        self, request_iterator: AsyncIterator[push_pb2.PushMediaRequest], context: Any
    ) -> AsyncIterator[push_pb2.PushMediaResponse]:
        async for response in self.pushes.push(current_call().caller, request_iterator):
            yield response

    async def GetPublication(self, request: pb.GetPublicationRequest, context: Any) -> pb.GetPublicationResponse:
        return pb.GetPublicationResponse(publication=self.publishing.get(request.room, request.publication_id))

    async def ListPublications(self, request: pb.ListPublicationsRequest, context: Any) -> pb.ListPublicationsResponse:
        return self.publishing.list_page(request)


def _cause(call: Call) -> event_pb2.EventCause:
    return cause_of(call.caller, request_id=call.request_id)
