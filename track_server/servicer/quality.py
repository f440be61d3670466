"""Quality: one report, or a stream of them."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from track.v1 import quality_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.durations import seconds_of
from track_server.interceptors.context import current_call
from track_server.quality.live.quality import Quality
from track_server.quality.streaming.streams import Streams
from track_server.rooms.rooms import Rooms


class QualityReports(TrackServiceServicer):
    """See TrackService in the contract."""

    rooms: Rooms
    quality: Quality
    quality_streams: Streams

    async def GetQualityReport(self, request: pb.GetQualityReportRequest, context: Any) -> pb.GetQualityReportResponse:
        async with self.rooms.watch(request.room) as live:
            windows = [seconds_of(window) for window in request.windows]
            return await self.quality.report(
                live, request.track_sid, windows=windows, wait_s=current_call().remaining()
            )

    async def StreamQualityReports(  # type: ignore[override]  # messages are serialised already
        self, request: pb.StreamQualityReportsRequest, context: Any
    ) -> AsyncIterator[bytes]:
        async with (
            self.rooms.watch(request.room) as live,
            aclosing(self.quality_streams.stream(live, request, current_call().end)) as messages,
        ):
            async for message in messages:
                yield message
