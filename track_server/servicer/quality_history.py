"""Quality over time: alerts, the history, and recordings of what is measured."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from track.v1 import quality_alert_pb2, quality_pb2, quality_recording_pb2
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.quality.alerts.listing import AlertListing
from track_server.quality.history.listing import HistoryListing
from track_server.quality.recordings.recorder import Recorder


class QualityHistory(TrackServiceServicer):
    """See TrackService in the contract."""

    alert_listing: AlertListing
    history_listing: HistoryListing
    recorder: Recorder

    async def ListQualityAlerts(
        self, request: quality_alert_pb2.ListQualityAlertsRequest, context: Any
    ) -> quality_alert_pb2.ListQualityAlertsResponse:
        return await self.alert_listing.page(request)

    async def ListQualityReports(
        self, request: quality_pb2.ListQualityReportsRequest, context: Any
    ) -> quality_pb2.ListQualityReportsResponse:
        return await self.history_listing.page(request)

    async def RecordQualitySamples(
        self, request: quality_recording_pb2.RecordQualitySamplesRequest, context: Any
    ) -> AsyncIterator[quality_recording_pb2.RecordQualitySamplesResponse]:
        async with contextlib.aclosing(self.recorder.record(request.room)) as messages:
            async for message in messages:
                yield message
