"""What clients measure of their own tracks."""

from collections.abc import AsyncIterator
from typing import Any

from track.v1 import quality_stats_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.interceptors.context import current_call
from track_server.quality.reporting.reporting import StatsReporting


class StatsReports(TrackServiceServicer):
    """See TrackService in the contract."""

    stats_reporting: StatsReporting

    async def ReportTrackStats(
        self, request_iterator: AsyncIterator[pb.ReportTrackStatsRequest], context: Any
    ) -> pb.ReportTrackStatsResponse:
        return await self.stats_reporting.report(current_call().caller, request_iterator)
