"""Metadata of tracks, and its schemas."""

from typing import Any

from track.v1 import metadata_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.access.causes import cause_of
from track_server.deadline import Deadline
from track_server.interceptors.context import current_call
from track_server.metadata.metadata import Metadata
from track_server.metadata.policies import SchemaPolicies


class TrackMetadata(TrackServiceServicer):
    """See TrackService in the contract."""

    metadata: Metadata
    schemas: SchemaPolicies

    async def SetTrackMetadata(self, request: pb.SetTrackMetadataRequest, context: Any) -> pb.SetTrackMetadataResponse:
        call = current_call()
        cause = cause_of(call.caller, request_id=call.request_id)
        return await self.metadata.set(call.caller, request, Deadline.after(call.remaining()), cause)

    async def GetTrackMetadata(self, request: pb.GetTrackMetadataRequest, context: Any) -> pb.GetTrackMetadataResponse:
        return await self.metadata.get(request)

    async def DeleteTrackMetadata(
        self, request: pb.DeleteTrackMetadataRequest, context: Any
    ) -> pb.DeleteTrackMetadataResponse:
        call = current_call()
        cause = cause_of(call.caller, request_id=call.request_id)
        return await self.metadata.delete(call.caller, request, Deadline.after(call.remaining()), cause)

    async def SetMetadataSchema(
        self, request: pb.SetMetadataSchemaRequest, context: Any
    ) -> pb.SetMetadataSchemaResponse:
        call = current_call()
        return await self.schemas.set(request, cause_of(call.caller, request_id=call.request_id))

    async def GetMetadataSchema(
        self, request: pb.GetMetadataSchemaRequest, context: Any
    ) -> pb.GetMetadataSchemaResponse:
        return self.schemas.get(request)

    async def DeleteMetadataSchema(
        self, request: pb.DeleteMetadataSchemaRequest, context: Any
    ) -> pb.DeleteMetadataSchemaResponse:
        call = current_call()
        return await self.schemas.delete(request, cause_of(call.caller, request_id=call.request_id))

    async def ListMetadataSchemas(
        self, request: pb.ListMetadataSchemasRequest, context: Any
    ) -> pb.ListMetadataSchemasResponse:
        return self.schemas.list_page(request)
