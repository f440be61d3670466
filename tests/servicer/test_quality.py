"""StreamQualityReports and GetQualityReport: measured, or absent."""

import asyncio
import contextlib
import itertools
import statistics
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room
from tests.participants import camera, participant
from tests.publications import DATA, DEADLINE_S, TONE, pattern, publish
from tests.refusals import first, refusal
from tests.track_process import Client
from track.v1 import quality_pb2, track_pb2, tracks_pb2

PUBLISHER = quality_pb2.QUALITY_SOURCE_PUBLISHER_STATS
SCORE = quality_pb2.QUALITY_SOURCE_SFU_SCORE
MEASURED = (
    "loss_percent",
    "jitter_ms",
    "rtt_ms",
    "bitrate_bps",
    "frames_per_second",
    "width",
    "height",
)


def sample(report: quality_pb2.TrackQualityReport, source: int) -> quality_pb2.QualitySample | None:
    """The report's sample of that source."""
    return next((found for found in report.samples if found.source == source), None)


def present(found: Any) -> set[str]:
    """Which of the measured numbers are there."""
    return {name for name in MEASURED if found.HasField(name)}


@contextlib.asynccontextmanager
async def reports(
    client: Client, room: str, interval_s: float = 1, **selection: Any
) -> AsyncIterator[AsyncIterator[quality_pb2.StreamQualityReportsResponse]]:
    """StreamQualityReports."""
    interval = duration_pb2.Duration()
    interval.FromNanoseconds(round(interval_s * 1e9))
    request = quality_pb2.StreamQualityReportsRequest(room=room, interval=interval, **selection)
    stream = client.StreamQualityReports(request)
    try:
        yield aiter(stream)
    finally:
        stream.cancel()


async def until(
    stream: AsyncIterator[quality_pb2.StreamQualityReportsResponse],
    sid: str,
    condition: Callable[[quality_pb2.TrackQualityReport], Any],
) -> quality_pb2.TrackQualityReport:
    """The first report of that track of which ``condition`` holds."""
    last = None
    try:
        async with asyncio.timeout(DEADLINE_S):
            async for message in stream:
                for report in message.reports:
                    if report.track_sid == sid:
                        last = report
                        if condition(report):
                            return report
    except TimeoutError:
        pass
    raise AssertionError(f"it never came true; last: {last}")


def complete(report: quality_pb2.TrackQualityReport) -> bool:
    """Whether the publisher's and LiveKit's numbers are all there."""
    own, score = sample(report, PUBLISHER), sample(report, SCORE)
    wanted = {"loss_percent", "jitter_ms", "rtt_ms", "bitrate_bps"}
    return own is not None and score is not None and wanted <= present(own)


async def test_a_hosted_video_tells_plausible_numbers_of_every_layer(admin: Client, room: str) -> None:
    video = await publish(admin, room, pattern(960, 540, 10))

    def all_layers(report: quality_pb2.TrackQualityReport) -> bool:
        own = sample(report, PUBLISHER)
        # What a busy machine makes less of for a while is waited for.
        return (
            complete(report)
            and own is not None
            and own.width == 960
            and [layer.bitrate_bps > 0 for layer in own.layers] == [True] * 3
            and own.frames_per_second > 3
            and own.bitrate_bps > 20_000
            and own.loss_percent < 2
        )

    async with reports(admin, room) as stream:
        report = await until(stream, video.track_sid, all_layers)
    assert report.publication_id == video.publication_id
    assert (report.type, report.source) == (track_pb2.TRACK_TYPE_VIDEO, track_pb2.TRACK_SOURCE_CAMERA)
    assert not report.muted
    own = sample(report, PUBLISHER)
    assert own is not None
    assert present(own) == set(MEASURED)
    assert 0 <= own.rtt_ms < 2_000
    assert 0 <= own.jitter_ms < 2_000
    # The layers below have at most 160 and 450 kbit/s of their own.
    assert own.bitrate_bps < 2 * (video.spec.video.max_bitrate_bps + 610_000)
    assert (own.width, own.height) == (960, 540)
    assert 0.5 <= own.window.ToNanoseconds() / 1e9 < 20
    assert own.age.ToNanoseconds() / 1e9 < 20
    assert [(layer.width, layer.height) for layer in own.layers] == [(320, 180), (640, 360), (960, 540)]
    assert [layer.rid for layer in own.layers] == ["q", "h", "f"]
    assert sum(layer.bitrate_bps for layer in own.layers) == pytest.approx(own.bitrate_bps, rel=0.2)
    assert not own.HasField("score")
    score = sample(report, SCORE)
    assert score is not None
    assert score.connection_quality in (quality_pb2.CONNECTION_QUALITY_GOOD, quality_pb2.CONNECTION_QUALITY_EXCELLENT)
    assert 1 <= score.score <= 5
    assert present(score) == set()
    assert not score.HasField("window")


async def test_a_hosted_sound_has_no_frames_and_no_size(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)

    def sounds(report: quality_pb2.TrackQualityReport) -> bool:
        own = sample(report, PUBLISHER)
        return complete(report) and own is not None and own.bitrate_bps > 5_000 and own.loss_percent < 2

    async with reports(admin, room) as stream:
        report = await until(stream, tone.track_sid, sounds)
    own = sample(report, PUBLISHER)
    assert own is not None
    assert present(own) == {"loss_percent", "jitter_ms", "rtt_ms", "bitrate_bps"}
    assert own.bitrate_bps < 200_000
    assert not own.layers


async def test_a_hosted_data_track_tells_what_it_pushed(admin: Client, room: str) -> None:
    data = await publish(admin, room, DATA)

    def flows(report: quality_pb2.TrackQualityReport) -> bool:
        own = sample(report, PUBLISHER)
        return own is not None and own.frames_per_second == pytest.approx(20, abs=5)

    async with reports(admin, room) as stream:
        report = await until(stream, data.track_sid, flows)
    (own,) = report.samples
    assert own.source == PUBLISHER
    assert present(own) == {"bitrate_bps", "frames_per_second"}
    assert own.bitrate_bps == pytest.approx(own.frames_per_second * 64 * 8)


async def test_of_others_tracks_only_livekits_score_is_known(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam, reports(admin, room) as stream:
        report = await until(stream, cam.sid, lambda found: found.samples)
        assert [found.source for found in report.samples] == [SCORE]
        assert report.publication_id == ""
        assert present(report.samples[0]) == set()
        answer = await admin.GetQualityReport(quality_pb2.GetQualityReportRequest(room=room, track_sid=cam.sid))
        assert [found.source for found in answer.report.samples] == [SCORE]
        assert answer.freshness.source == track_pb2.FRESHNESS_SOURCE_WATCHED


async def test_a_muted_track_has_no_bitrate_of_before(admin: Client, room: str) -> None:
    video = await publish(admin, room, pattern(320, 180, 10))
    async with reports(admin, room) as stream:
        await until(stream, video.track_sid, complete)
        ref = tracks_pb2.TrackRef(track_sid=video.track_sid)
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]))

        def silent(report: quality_pb2.TrackQualityReport) -> bool:
            # A last frame on its way out may still begin the new window: its layer is there until it has paused.
            own = sample(report, PUBLISHER)
            return report.muted and (own is None or (own.bitrate_bps < 2_000 and not own.layers))

        await until(stream, video.track_sid, silent)


async def test_one_report_waits_for_the_first_measurement(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    request = quality_pb2.GetQualityReportRequest(room=room, track_sid=tone.track_sid)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            began = loop.time()
            answer = await admin.GetQualityReport(request)
            assert answer.HasField("time")
            assert answer.report.track_sid == tone.track_sid
            own = sample(answer.report, PUBLISHER)
            if own is not None and own.HasField("bitrate_bps"):
                break
            # Two statistics, a second apart, may come later on a busy machine; it does wait for them.
            assert loop.time() - began > 2.5


async def test_reports_are_of_what_was_chosen_at_the_interval_chosen(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    tone, other, data = await asyncio.gather(
        publish(admin, room, TONE, "host"), publish(admin, room, TONE, "other"), publish(admin, room, DATA, "host")
    )

    async def chosen(**selection: Any) -> list[str]:
        async with asyncio.timeout(DEADLINE_S), reports(admin, room, **selection) as stream:
            return [report.track_sid for report in (await anext(stream)).reports]

    assert await chosen() == [*sorted([tone.track_sid, data.track_sid]), other.track_sid]
    assert await chosen(participant_identity="host") == sorted([tone.track_sid, data.track_sid])
    assert await chosen(track_sids=[data.track_sid]) == [data.track_sid]
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE_S), reports(admin, room, interval_s=1.5, track_sids=[tone.track_sid]) as stream:
        began = loop.time()
        await anext(stream)
        times = [(await anext(stream)).time.ToNanoseconds() / 1e9 for _ in range(4)]
        assert loop.time() - began > 4
    spans = [after - before for before, after in itertools.pairwise(times)]
    # One may be late on a busy machine, and the next the sooner for it.
    assert statistics.median(spans) == pytest.approx(1.5, abs=0.4)


async def test_a_stream_shows_tracks_that_come_and_ends_with_the_room(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with asyncio.timeout(40), reports(admin, room) as stream:
        assert not (await anext(stream)).reports
        tone = await publish(admin, room, TONE)
        await until(stream, tone.track_sid, lambda _: True)
        await delete_room(livekit, room)
        async for _ in stream:
            pass


@pytest.mark.parametrize("interval_s", [0.5, 0, -1, 61])
async def test_an_interval_out_of_range_is_refused(admin: Client, room: str, interval_s: float) -> None:
    interval = duration_pb2.Duration()
    interval.FromNanoseconds(round(interval_s * 1e9))
    request = quality_pb2.StreamQualityReportsRequest(room=room, interval=interval)
    refused = await refusal(first(admin.StreamQualityReports(request)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refused.fields == ("interval",)


async def test_what_is_not_in_the_room_is_not_found(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    stream = quality_pb2.StreamQualityReportsRequest
    cases: list[tuple[Any, str]] = [
        (admin.GetQualityReport(quality_pb2.GetQualityReportRequest(room=room, track_sid="TR_x")), "track_sid"),
        (first(admin.StreamQualityReports(stream(room=room, track_sids=[tone.track_sid, "TR_x"]))), "track_sids"),
    ]
    for call, field in cases:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TRACK_NOT_FOUND")
        assert refused.fields == (field,)
    refused = await refusal(first(admin.StreamQualityReports(stream(room=room, participant_identity="nobody"))))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PARTICIPANT_NOT_FOUND")
    assert refused.fields == ("participant_identity",)
