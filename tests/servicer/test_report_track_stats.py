"""ReportTrackStats: what a participant's client measured shows while the client and the room are there."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import grpc
import pytest
from livekit import api

from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.servicer.track_stats import DEADLINE_S, message, reported, sample, sound
from tests.subscriptions import listed
from tests.track_process import Client, TrackProcess
from track.v1 import quality_alert_pb2, quality_pb2
from track.v1.quality_pb2 import QUALITY_SOURCE_REPORTED, QualityMeasurement


async def measured(
    admin: Client, room: str, sid: str, identity: str, holds: Callable[[QualityMeasurement], bool]
) -> QualityMeasurement:
    """What the report says of that participant's end, once it holds."""
    found: list[QualityMeasurement] = []
    async with asyncio.timeout(DEADLINE_S):
        while True:
            request = quality_pb2.GetQualityReportRequest(room=room, track_sid=sid)
            answer = await admin.GetQualityReport(request)
            found = [each for each in answer.report.measurements if each.participant_identity == identity]
            if found and holds(found[0]):
                return found[0]
            await asyncio.sleep(0.1)


async def test_what_both_ends_measured_is_in_the_report_while_the_stream_is_open(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room: str
) -> None:
    async with (
        participant(livekit, room, "bob") as bob,
        participant(livekit, room, "alice"),
        track.client("alice", room_join=True, room=room) as alice,
    ):
        mic = await microphone(bob)
        await listed(admin, room, mic.sid)
        call = alice.ReportTrackStats(timeout=DEADLINE_S)
        await call.write(message(room, *(sound(mic.sid, second) for second in (-6, -5, -4, -3, -2, -1, 0))))
        found = await measured(admin, room, mic.sid, "alice", lambda each: each.HasField("loss_after_repair"))
        assert found.hop == quality_alert_pb2.QUALITY_HOP_DOWNLINK
        for share in (found.loss_before_repair, found.loss_after_repair):
            assert share.source == QUALITY_SOURCE_REPORTED
            assert (share.part, share.whole) == pytest.approx((25, 250), abs=1)
        assert (found.rtt_ms.value, found.jitter_ms.value) == (80.0, 12.5)
        assert found.concealed.percent == pytest.approx(10)
        assert found.audio_mos < 4
        # Of what nobody measured nothing is said.
        assert not found.HasField("frames_per_second")
        assert not found.HasField("buffer_ms")
        assert not found.HasField("audio_level")
        # An admin, for the other end.
        own = [sound(mic.sid, second, sent=True) for second in (-4, -3, -2, -1, 0)]
        answer = await reported(admin, message(room, *own, identity="bob"))
        assert (answer.taken_samples, answer.refused_samples) == (5, 0)
        sent = await measured(admin, room, mic.sid, "bob", lambda each: each.HasField("loss_after_repair"))
        assert sent.hop == quality_alert_pb2.QUALITY_HOP_UPLINK
        assert sent.loss_after_repair.percent == pytest.approx(10, abs=0.5)
        assert sent.bitrate_bps.value == pytest.approx(8 * 120 * 50, rel=0.01)
        await call.done_writing()
        answer = await call
        assert (answer.taken_samples, answer.refused_samples, list(answer.problems)) == (7, 0, [])


async def test_an_interruption_that_is_told_once_the_line_is_back_is_found(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room: str
) -> None:
    """A client without a downlink tells of it all at once, later."""
    async with (
        participant(livekit, room, "bob") as bob,
        participant(livekit, room, "alice"),
        track.client("alice", room_join=True, room=room) as alice,
    ):
        mic = await microphone(bob)
        await listed(admin, room, mic.sid)
        samples = []
        for second in range(-12, 1):
            # Nothing came from 7 s to 4 s ago.
            last, packets = (-7, 350) if -7 <= second <= -4 else (second, 700 + 50 * second - 150 * (second > -4))
            told = sample(mic.sid, second, packets=packets, packets_lost=0, bytes=100 * packets)
            told.streams[0].last_packet_time.FromNanoseconds(time.time_ns() + (last * 1000 - 20) * 1_000_000)
            samples.append(told)
        call = alice.ReportTrackStats(timeout=DEADLINE_S)
        await call.write(message(room, *samples))
        kinds: set[int] = set()
        async with asyncio.timeout(DEADLINE_S):
            while quality_alert_pb2.QUALITY_ALERT_KIND_INTERRUPTED not in kinds:
                found = await admin.ListQualityAlerts(quality_alert_pb2.ListQualityAlertsRequest(room=room))
                kinds = {each.kind for each in found.alerts if each.participant_identity == "alice"}
                await asyncio.sleep(0.1)
        await call.done_writing()
        assert (await call).taken_samples == len(samples)


async def test_the_stream_ends_with_its_answer_when_the_room_closes(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room_name: str
) -> None:
    async with (
        api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as server,
        track.client("alice", room_join=True, room=room_name) as alice,
    ):
        await server.room.create_room(api.CreateRoomRequest(name=room_name))
        async with participant(livekit, room_name, "alice"), participant(livekit, room_name, "bob") as bob:
            mic = await microphone(bob)
            await listed(admin, room_name, mic.sid)
            call = alice.ReportTrackStats(timeout=DEADLINE_S)
            await call.write(message(room_name, sound(mic.sid, 0)))
            await measured(admin, room_name, mic.sid, "alice", lambda _: True)
            await server.room.delete_room(api.DeleteRoomRequest(room=room_name))
            assert (await call).taken_samples == 1
            # What grpc.aio keeps for writing ends with this.
            with contextlib.suppress(grpc.aio.UsageError, asyncio.InvalidStateError):
                await call.done_writing()


async def test_who_has_left_measures_nothing(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob, track.client("alice", room_join=True, room=room) as alice:
        mic = await microphone(bob)
        await listed(admin, room, mic.sid)
        async with participant(livekit, room, "alice"):
            call = alice.ReportTrackStats(timeout=DEADLINE_S)
            await call.write(message(room, sound(mic.sid, -2)))
            await measured(admin, room, mic.sid, "alice", lambda _: True)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                left = await admin.GetQualityReport(quality_pb2.GetQualityReportRequest(room=room, track_sid=mic.sid))
                if not any(each.participant_identity == "alice" for each in left.report.measurements):
                    break
                await asyncio.sleep(0.1)
        await call.write(message("", sound(mic.sid, -1)))
        await call.done_writing()
        answer = await call
        assert (answer.taken_samples, answer.refused_samples) == (1, 1)
        assert answer.problems[0].field == "samples[0]"
        assert answer.problems[0].code == grpc.StatusCode.NOT_FOUND.value[0]
