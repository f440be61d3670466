"""Quality: one report, or a stream of them."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from track.v1 import quality_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.durations import seconds_of
from track_server.interceptors.context import current_call
from track_server.quality.quality import Quality
from track_server.quality.reports import Selection
from track_server.rooms.rooms import Rooms

DEFAULT_INTERVAL_S: Final = 5.0


class QualityReports(TrackServiceServicer):
    """See TrackService in the contract."""

    rooms: Rooms
    quality: Quality

    async def GetQualityReport(self, request: pb.GetQualityReportRequest, context: Any) -> pb.GetQualityReportResponse:
        async with self.rooms.watch(request.room) as live:
            return await self.quality.report(live, request.track_sid, wait_s=current_call().remaining())

    async def StreamQualityReports(  # type: ignore[override]  # messages are serialised already
        self, request: pb.StreamQualityReportsRequest, context: Any
    ) -> AsyncIterator[bytes]:
        interval_s = seconds_of(request.interval) if request.HasField("interval") else DEFAULT_INTERVAL_S
        selection = Selection(request.participant_identity, frozenset(request.track_sids))
        async with (
            self.rooms.watch(request.room) as live,
            aclosing(self.quality.stream(live, selection, interval_s)) as messages,
        ):
            async for message in messages:
                yield message
