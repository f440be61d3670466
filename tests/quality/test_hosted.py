"""Reports of real tracks: hosted ones and a guest's, through the whole server, from a real LiveKit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import camera, participant
from tests.publications import DATA, TONE, pattern, publish
from tests.track_process import Client, TrackProcess
from track.v1.quality_pb2 import (
    CONNECTION_QUALITY_UNSPECIFIED,
    QUALITY_SOURCE_PUBLISHER_STATS,
    QUALITY_SOURCE_SFU_SCORE,
    GetQualityReportRequest,
    QualitySample,
    QualitySource,
    StreamQualityReportsRequest,
    StreamQualityReportsResponse,
    TrackQualityReport,
)
from track.v1.track_pb2 import FRESHNESS_SOURCE_WATCHED

DEADLINE_S = 45.0


@pytest_asyncio.fixture
async def admin(track: TrackProcess, livekit: LiveKitProcess, room_name: str) -> AsyncIterator[Client]:
    """An admin of this test's room, which exists."""
    async with existing_room(livekit, room_name), track.client("admin", room_admin=True, room=room_name) as client:
        yield client


async def reports_until(
    client: Client,
    request: StreamQualityReportsRequest,
    enough: Callable[[dict[str, TrackQualityReport]], bool],
) -> dict[str, TrackQualityReport]:
    """Reads the stream until its reports, by SID, are ``enough``."""
    stream: Any = client.StreamQualityReports(request, timeout=DEADLINE_S + 10)
    reports: dict[str, TrackQualityReport] = {}
    try:
        async with asyncio.timeout(DEADLINE_S):
            async for message in stream:
                assert isinstance(message, StreamQualityReportsResponse)
                assert message.freshness.source == FRESHNESS_SOURCE_WATCHED
                reports = {report.track_sid: report for report in message.reports}
                if enough(reports):
                    return reports
    except TimeoutError:
        pass
    finally:
        stream.cancel()
    raise AssertionError(f"the last reports were {reports}")


def sample_of(report: TrackQualityReport, source: QualitySource.ValueType) -> QualitySample | None:
    return next((sample for sample in report.samples if sample.source == source), None)


async def test_every_number_of_hosted_tracks_is_measured(admin: Client, room_name: str) -> None:
    video = await publish(admin, room_name, pattern(960, 540, simulcast=True), "host")
    tone = await publish(admin, room_name, TONE, "host")
    data = await publish(admin, room_name, DATA, "host")

    def measured(reports: dict[str, TrackQualityReport]) -> bool:
        samples = {
            sid: sample_of(reports[sid], QUALITY_SOURCE_PUBLISHER_STATS)
            for sid in (video.track_sid, tone.track_sid, data.track_sid)
        }
        seen, heard, sent = samples.values()
        return (
            seen is not None
            and len(seen.layers) == 3
            and all(layer.HasField("loss_percent") and layer.HasField("rtt_ms") for layer in seen.layers)
            and heard is not None
            and heard.HasField("loss_percent")
            and heard.HasField("rtt_ms")
            and sent is not None
            and sent.frames_per_second == pytest.approx(20, abs=10)
            and seen.frames_per_second > 1
            and seen.bitrate_bps > 10_000
            and heard.bitrate_bps > 1_000
            and all(sample_of(reports[sid], QUALITY_SOURCE_SFU_SCORE) for sid in (video.track_sid, tone.track_sid))
        )

    request = StreamQualityReportsRequest(room=room_name, participant_identity="host")
    request.interval.FromSeconds(2)
    reports = await reports_until(admin, request, measured)
    seen, heard, sent = (
        sample_of(reports[sid], QUALITY_SOURCE_PUBLISHER_STATS)
        for sid in (video.track_sid, tone.track_sid, data.track_sid)
    )
    assert seen is not None
    assert heard is not None
    assert sent is not None
    assert (seen.width, seen.height) == (960, 540)
    assert [layer.width for layer in seen.layers] == sorted(layer.width for layer in seen.layers)
    assert seen.frames_per_second <= 20
    assert seen.bitrate_bps < 5_000_000
    assert heard.bitrate_bps < 200_000
    assert not heard.layers
    assert not sent.HasField("loss_percent")
    assert 0.5 <= seen.window.ToMilliseconds() / 1000 < 20
    assert sample_of(reports[data.track_sid], QUALITY_SOURCE_SFU_SCORE) is None
    assert reports[video.track_sid].publication_id == video.publication_id


async def test_one_report_comes_with_rates_without_a_stream(admin: Client, room_name: str) -> None:
    tone = await publish(admin, room_name, TONE)
    request = GetQualityReportRequest(room=room_name, track_sid=tone.track_sid)
    async with asyncio.timeout(DEADLINE_S):
        while True:  # it waits 3 s for the first measurement, which can be too few on a busy machine
            sample = sample_of((await admin.GetQualityReport(request)).report, QUALITY_SOURCE_PUBLISHER_STATS)
            if sample is not None and sample.bitrate_bps > 0:
                break


async def test_a_guests_track_has_livekits_score_alone(admin: Client, livekit: LiveKitProcess, room_name: str) -> None:
    async with participant(livekit, room_name, "guest") as guest, camera(guest) as published:
        sid = published.sid
        reports = await reports_until(
            admin,
            StreamQualityReportsRequest(room=room_name, participant_identity="guest"),
            # LiveKit tells the publisher of its track before it tells the room.
            lambda seen: sid in seen and bool(seen[sid].samples),
        )
    (sample,) = reports[sid].samples
    assert sample.source == QUALITY_SOURCE_SFU_SCORE
    assert sample.connection_quality != CONNECTION_QUALITY_UNSPECIFIED
    assert 1 <= sample.score <= 5
    assert reports[sid].publication_id == ""
