"""The record of operations: list."""

from typing import Any

from track.v1 import audit_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.audit.record import Record
from track_server.interceptors.context import current_call


class AuditEntries(TrackServiceServicer):
    """See TrackService in the contract."""

    record: Record

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, context: Any) -> pb.ListAuditEntriesResponse:
        return await self.record.page(current_call().caller, request)
