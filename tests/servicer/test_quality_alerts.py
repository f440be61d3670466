"""Quality alerts of real tracks: events, lists, reports, snapshots, metrics, recordings, and a restart."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from tests.clients.apps import attached, public_key
from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import participant
from tests.publications import TONE, publish
from tests.refusals import first, refusal
from tests.servicer.asking import value
from tests.servicer.quality_calls import STALLED, alerts, points, pushed_picture, report, stall_of, until
from tests.servicer.test_quality_stream import reading
from tests.streams import watching
from tests.track_process import Client, TrackProcess
from track.v1.event_pb2 import (
    EVENT_KIND_QUALITY_ALERT_ENDED,
    EVENT_KIND_QUALITY_ALERT_STARTED,
    EVENT_KIND_QUALITY_LEVEL_CHANGED,
)
from track.v1.publication_pb2 import Publication
from track.v1.quality_alert_pb2 import ListQualityAlertsRequest, QualityFault, QualityHop
from track.v1.quality_pb2 import ListQualityReportsRequest, QualityLevel
from track.v1.quality_policy_pb2 import QualityPolicy, QualityTargets, SetQualityPolicyRequest
from track.v1.quality_recording_pb2 import RecordQualitySamplesRequest
from track_server.durations import duration_of, timestamp_at

KINDS = [EVENT_KIND_QUALITY_ALERT_STARTED, EVENT_KIND_QUALITY_ALERT_ENDED, EVENT_KIND_QUALITY_LEVEL_CHANGED]
SETTINGS = {
    "TRACK_METRICS_LISTEN": "127.0.0.1:0",
    "TRACK_QUALITY_ATTAINMENT_METRICS": "tracks",
}


@pytest_asyncio.fixture(scope="module")
async def measuring(livekit: LiveKitProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """TrackService with metrics, and a process for each session, shared by the tests of this module."""
    async with TrackProcess(livekit, tmp_path_factory.mktemp("measuring"), SETTINGS) as server:
        yield server


@pytest_asyncio.fixture
async def caller(measuring: TrackProcess, room: str) -> AsyncIterator[Client]:
    async with measuring.client("admin", room_admin=True, room=room) as client:
        yield client


@contextlib.asynccontextmanager
async def recorded(track: TrackProcess, room: str, file: Path) -> AsyncIterator[None]:
    """`track-server record` for the span of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "track_server", "record", "--address", track.address, "--room", room),
        *("--output", str(file)),
        env={**os.environ, "TRACK_TOKEN": track.token("admin", room_admin=True, room=room)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: asyncio.to_thread(ticks_in, file))
        yield
        told = ticks_in(file)
        await until(lambda: asyncio.to_thread(lambda: ticks_in(file) >= told + 2))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.communicate()


def ticks_in(file: Path) -> int:
    """How often the room was looked at in what is recorded until now."""
    return file.read_text().count('"kind": "tick"') if file.exists() else 0


@contextlib.contextmanager
def stopped(track: TrackProcess) -> Iterator[None]:
    """The processes that host publishers stand still for the span of the block."""
    children = track.worker.children()
    for child in children:
        child.suspend()
    try:
        yield
    finally:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()


async def replayed(file: Path) -> list[str]:
    """The lines of `track-server replay`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "track_server", "replay", str(file)), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()


@pytest.mark.deadline(180)
async def test_a_track_that_stalls_is_told_everywhere_until_it_goes_on_and_its_recording_says_the_same(
    measuring: TrackProcess, caller: Client, room: str, tmp_path: Path
) -> None:
    policy = QualityPolicy(targets=QualityTargets(level=QualityLevel.QUALITY_LEVEL_POOR))
    await caller.SetQualityPolicy(SetQualityPolicyRequest(room=room, policy=policy))
    async with pushed_picture(caller, room) as video, watching(caller, room=room, kinds=KINDS) as stream:
        assert not (await stream.snapshot()).quality_alerts
        await stream.until("quality_level_changed", lambda found: found.track_sid == video.sid and found.level)
        async with recorded(measuring, room, tmp_path / "recording"):
            video.flows.clear()
            publisher = video.publication.participant_identity
            alert = await stall_of(stream, publisher, publisher)
            assert (alert.track_sid, alert.hop) == (video.sid, QualityHop.QUALITY_HOP_UPLINK)
            assert alert.fault == QualityFault.QUALITY_FAULT_PUBLISHER_UPLINK
            assert alert.evidence.value > 4
            (active,) = await alerts(caller, room, active_only=True, filter=f"alert.alert_id == '{alert.alert_id}'")
            assert not active.HasField("end_time")
            shown = {found.alert_id for found in (await report(caller, room, video.sid)).alerts}
            assert alert.alert_id in shown
            async with watching(caller, room=room, kinds=KINDS) as later:
                assert alert.alert_id in {found.alert_id for found in (await later.snapshot()).quality_alerts}
            video.flows.set()
            ended = await stream.until("quality_alert_ended", lambda found: found.alert_id == alert.alert_id)
            assert not ended.ended_unproved
            assert ended.end_time.ToNanoseconds() > ended.start_time.ToNanoseconds()
        assert ended in await alerts(caller, room)
        assert not [found for found in (await report(caller, room, video.sid)).alerts if found.kind == STALLED]
        levels = [message.event.quality_level_changed.level for message in stream.seen]
        assert QualityLevel.QUALITY_LEVEL_LOST in levels
        attainment = (await report(caller, room, video.sid)).attainment
        assert 0 < attainment.within.ToNanoseconds() < attainment.measured.ToNanoseconds()
        ratio = await value(measuring, f'track_quality_attainment_ratio{{room="{room}",track="{video.sid}"}}')
        assert 0 < ratio < 1
        assert await value(measuring, 'track_quality_alerts_total{fault="publisher_uplink",kind="stalled"}') >= 1
    lines = [line for line in await replayed(tmp_path / "recording") if "kind=STALLED" in line and video.sid in line]
    assert [line.split()[2] for line in lines] == ["quality_alert_started", "quality_alert_ended"]
    assert all("fault=PUBLISHER_UPLINK" in line for line in lines)


@pytest.mark.deadline(180)
async def test_what_is_on_when_the_room_closes_is_told_as_ended_before_that(
    caller: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        pushed_picture(caller, room) as video,
        watching(caller, room=room) as stream,
        reading(caller, room, only_changes=True) as reader,
    ):
        await reader.until_report(video.sid, lambda found: found.measurements)
        video.flows.clear()
        publisher = video.publication.participant_identity
        alert = await stall_of(stream, publisher, publisher)
        await reader.until_report(video.sid, lambda found: alert.alert_id in {shown.alert_id for shown in found.alerts})
        await delete_room(livekit, room)
        await stream.until("room_closed")
        ended = [
            message.event.quality_alert_ended
            for message in stream.seen
            if message.event.HasField("quality_alert_ended")
            and message.event.quality_alert_ended.alert_id == alert.alert_id
        ]
        assert [found.ended_unproved for found in ended] == [True]
        await reader.until(lambda: alert.alert_id in reader.view.over)
        assert ended[0] in await alerts(caller, room)


@pytest.mark.deadline(180)
async def test_a_publisher_that_is_stopped_stalls_its_subscriber_and_alerts_outlive_the_server(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    room = room_name
    # Of its own: on a shared one another server's worker may host the publisher, which nobody would stop.
    livekit = await start_livekit()
    track = await start_track(livekit, SETTINGS)
    async with existing_room(livekit, room), track.client("admin", room_admin=True, room=room) as client:
        known = await publish(client, room, TONE)
        async with (
            participant(livekit, room, "bob") as bob,
            attached(bob, await public_key(client)),
            watching(client, room=room, kinds=KINDS) as stream,
        ):
            await stream.until(
                "quality_level_changed",
                lambda found: (found.track_sid, found.participant_identity) == (known.track_sid, "bob"),
            )
            with stopped(track):
                alert = await stall_of(stream, known.participant_identity, "bob")
            assert alert.hop == QualityHop.QUALITY_HOP_DOWNLINK
            assert alert.alert_id in {found.alert_id for found in await alerts(client, room)}
            ended = await stream.until("quality_alert_ended", lambda found: found.alert_id == alert.alert_id)
            # LiveKit may have given the publisher up meanwhile: then nobody can show that it is over.
            assert ended.ended_unproved or ended.evidence.value < 4
            await require_history(client, known)
            with stopped(track):
                on = await stall_of(stream, known.participant_identity, "bob")
                # They are listed once they are written.
                assert on.alert_id in {found.alert_id for found in await alerts(client, room)}
                await track.kill()
    await track.start()
    async with track.client("admin", room_admin=True, room=room) as client:
        kept = {shown.alert_id: shown for shown in await alerts(client, room)}
        assert kept[alert.alert_id] == ended
        assert (kept[on.alert_id].ended_unproved, kept[on.alert_id].HasField("end_time")) == (True, True)
        assert not await alerts(client, room, active_only=True, filter=f"alert.alert_id == '{on.alert_id}'")


async def require_history(client: Client, known: Publication) -> None:
    """The history has the track on both its hops, and what is asked for of it."""
    room, publisher = known.room, known.participant_identity
    await until(lambda: points(client, room, participant_identity="bob"))
    whole = await points(client, room, track_sid=known.track_sid)
    assert {point.measurement.participant_identity for point in whole} == {"bob", publisher}
    found = await points(client, room, participant_identity=publisher)
    for point in found:
        assert (point.track_sid, point.publisher_identity) == (known.track_sid, publisher)
        assert point.measurement.hop == QualityHop.QUALITY_HOP_UPLINK
        # A sound has no size, and nobody freezes on its way up.
        assert not [name for name in ("width", "frozen", "buffer_ms") if point.measurement.HasField(name)]
    assert max(point.measurement.bitrate_bps.value for point in found) > 1000
    assert not await points(client, room, track_sid="TR_other")
    assert not await points(client, room, participant_identity="nobody")
    assert not await points(client, room, end_time=whole[0].time)
    assert (await points(client, room, begin_time=whole[0].time))[0] == whole[0]


async def test_questions_about_the_past_that_are_wrong_are_refused(caller: Client, room: str) -> None:
    assert not await points(caller, room)
    assert not await points(caller, room, begin_time=Timestamp(seconds=2**62))
    assert not await points(caller, room, begin_time=Timestamp(seconds=1, nanos=-1), end_time=Timestamp(seconds=2**62))
    assert not await alerts(caller, room)
    stamp = timestamp_at(1_790_000_000)
    for wrong, reason in (
        (ListQualityReportsRequest(room=room, page_token="x"), "INVALID_PAGE_TOKEN"),
        (ListQualityReportsRequest(room=room, window=duration_of(7)), "INVALID_FIELD"),
        (ListQualityReportsRequest(room=room, begin_time=stamp, end_time=stamp), "INVALID_FIELD"),
        (ListQualityReportsRequest(room=room, page_size=1001), "INVALID_FIELD"),
        (ListQualityReportsRequest(room=room, track_sid="track"), "INVALID_FIELD"),
    ):
        told = await refusal(caller.ListQualityReports(wrong))
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    for asked, reason in (
        (ListQualityAlertsRequest(room=room, page_token="x"), "INVALID_PAGE_TOKEN"),
        (ListQualityAlertsRequest(room=room, filter="alert.colour == 1"), "INVALID_EXPRESSION"),
        (ListQualityAlertsRequest(room=room, filter="alert.kind"), "INVALID_EXPRESSION"),
    ):
        told = await refusal(caller.ListQualityAlerts(asked))
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_a_recording_is_refused_to_strangers_and_ends_with_the_room(
    measuring: TrackProcess, caller: Client, livekit: LiveKitProcess, room: str
) -> None:
    request = RecordQualitySamplesRequest(room=room)
    async with measuring.client("stranger", room_join=True, room="another") as stranger:
        assert (await refusal(first(stranger.RecordQualitySamples(request)))).code == grpc.StatusCode.PERMISSION_DENIED
    missing = RecordQualitySamplesRequest(room=f"{room}-missing")
    async with measuring.client("admin", room_admin=True, room=missing.room) as other:
        assert (await refusal(first(other.RecordQualitySamples(missing)))).code == grpc.StatusCode.NOT_FOUND
    call = caller.RecordQualitySamples(request)
    async with asyncio.timeout(45):
        begun: Any = await call.read()
        assert [json.loads(line)["kind"] for line in begun.lines][:2] == ["clock", "tick"]
        await delete_room(livekit, room)
        message: Any
        while (message := await call.read()) is not grpc.aio.EOF:
            assert message.lines
        assert await call.code() is grpc.StatusCode.OK
