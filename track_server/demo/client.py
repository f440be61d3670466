"""The demo's calls: a generated client of TrackService, with the admin's token, as any other program has one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from track.v1.event_pb2 import WatchEventsRequest, WatchEventsResponse
from track.v1.publication_pb2 import Publication, PublicationSpec, PublishTrackRequest
from track.v1.quality_pb2 import StreamQualityReportsRequest, StreamQualityReportsResponse
from track.v1.server_info_pb2 import GetServerInfoRequest, GetServerInfoResponse
from track.v1.track_service_pb2_grpc import TrackServiceStub
from track.v1.tracks_pb2 import SubscriptionResult, SubscriptionUpdate, UpdateSubscriptionsRequest
from track_server.demo.programme import Item
from track_server.demo.service import ROOM, Service

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_CALL_S: Final = 10.0
_REPORTS_S: Final = 1


class Client:
    """Calls about the demo's room. Every call raises grpc.aio.AioRpcError."""

    def __init__(self, stub: "TrackServiceAsyncStub", token: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def server_info(self) -> GetServerInfoResponse:
        """What the server is."""
        return await self._stub.GetServerInfo(GetServerInfoRequest(), metadata=self._metadata, timeout=_CALL_S)

    async def publish(self, item: Item, wait_s: float) -> Publication:
        """Publish; the track may not be live yet after ``wait_s``."""
        spec = PublicationSpec()
        spec.CopyFrom(item.spec)
        json_format.ParseDict({"demo": True}, spec.metadata)
        request = PublishTrackRequest(
            room=ROOM, participant_identity=item.identity, create_room=True, spec=spec, request_id=f"demo-{spec.name}"
        )
        return (await self._stub.PublishTrack(request, metadata=self._metadata, timeout=wait_s)).publication

    async def subscribe(self, identity: str, track_sids: Sequence[str]) -> Sequence[SubscriptionResult]:
        """Subscribe a participant to media tracks; one result a track, in order."""
        request = UpdateSubscriptionsRequest(
            room=ROOM,
            updates=[
                SubscriptionUpdate(participant_identity=identity, track_sid=sid, subscribe=True) for sid in track_sids
            ],
        )
        answer = await self._stub.UpdateSubscriptions(request, metadata=self._metadata, timeout=_CALL_S)
        return answer.results

    async def watch(self) -> AsyncIterator[WatchEventsResponse]:
        """Everything that happens in the room, until it is closed."""
        async for message in self._stub.WatchEvents(WatchEventsRequest(room=ROOM), metadata=self._metadata):
            yield message

    async def reports(self) -> AsyncIterator[StreamQualityReportsResponse]:
        """The quality of every track, once a second."""
        request = StreamQualityReportsRequest(room=ROOM, interval=Duration(seconds=_REPORTS_S))
        async for message in self._stub.StreamQualityReports(request, metadata=self._metadata):
            yield message


@asynccontextmanager
async def client(service: Service) -> AsyncIterator[Client]:
    """A client for the span of the block."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield Client(TrackServiceStub(channel), service.token)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Status, reason and text of a failed call, in one line."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is read of a call
    reasons: list[str] = []
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reasons.append(info.reason)
    return " ".join([error.code().name, *reasons, error.details() or ""]).strip()
