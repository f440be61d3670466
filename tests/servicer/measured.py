"""What is measured of a track, asked for until it is so."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from tests.track_process import Client
from track.v1.quality_alert_pb2 import QUALITY_HOP_DOWNLINK, QUALITY_HOP_UPLINK
from track.v1.quality_pb2 import GetQualityReportRequest, QualityMeasurement, TrackQualityReport
from track_server.durations import duration_of

DEADLINE_S = 45.0
UP, DOWN = QUALITY_HOP_UPLINK, QUALITY_HOP_DOWNLINK


async def report_of(client: Client, room: str, sid: str, *, window_s: float = 5.0) -> TrackQualityReport:
    """The track's report."""
    request = GetQualityReportRequest(room=room, track_sid=sid, windows=[duration_of(window_s)])
    return (await client.GetQualityReport(request, timeout=DEADLINE_S)).report


async def reported(
    client: Client, room: str, sid: str, condition: Callable[[TrackQualityReport], Any], *, window_s: float = 5.0
) -> TrackQualityReport:
    """Its first report of which ``condition`` holds."""
    report = TrackQualityReport()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition(report):
                try:
                    report = await report_of(client, room, sid, window_s=window_s)
                except grpc.aio.AioRpcError as error:
                    # A session says that it has published before LiveKit tells the room.
                    if error.code() is not grpc.StatusCode.NOT_FOUND:
                        raise
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"it never came true; last: {report}") from None
    return report


def measurements(report: TrackQualityReport, hop: int) -> list[QualityMeasurement]:
    """Those of a hop."""
    return [found for found in report.measurements if found.hop == hop]


async def measured(
    client: Client,
    room: str,
    sid: str,
    condition: Callable[[QualityMeasurement], Any],
    *,
    hop: int = UP,
    window_s: float = 5.0,
) -> QualityMeasurement:
    """The first measurement of that hop of which ``condition`` holds."""
    report = await reported(
        client, room, sid, lambda report: any(map(condition, measurements(report, hop))), window_s=window_s
    )
    return next(found for found in measurements(report, hop) if condition(found))
