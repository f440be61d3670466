"""What a session that pulls receives is measured, and reported as that of a subscriber."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.conftest import StartLiveKit, StartTrack
from tests.impairment.line import Bounds
from tests.impairment.relay import Relay, behind
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.publications import TONE, pattern, publish
from tests.servicer.measured import DOWN, UP, measured, measurements, report_of, reported
from tests.servicer.pulls.pulling import FRAMES, Pull, hidden, pulling
from tests.track_process import Client
from track.v1.quality_pb2 import QUALITY_SOURCE_SUBSCRIBER_STATS, QualityMeasurement, TrackQualityReport

LOSS: Final = 0.15
FPS: Final = 15


@contextlib.asynccontextmanager
async def pulled(client: Client, room: str, sid: str) -> AsyncIterator[Pull]:
    """A stream of frames that is read all the time."""
    async with pulling(client, room, track_sid=sid, frames=FRAMES) as pull:
        await pull.until(lambda pull: bool(pull.media))

        async def read() -> None:
            while True:
                await pull.read()

        reading = asyncio.create_task(read())
        try:
            yield pull
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def whole(found: QualityMeasurement) -> bool:
    """Whether it is one of some seconds."""
    return found.window.ToNanoseconds() > 4e9 and found.HasField("rtt_ms")


async def test_a_pulled_video_is_measured_at_the_session(admin: Client, room: str, livekit: LiveKitProcess) -> None:
    video = await publish(admin, room, pattern(fps=FPS))
    async with pulled(admin, room, video.track_sid) as pull:
        await measured(admin, room, video.track_sid, lambda found: found.HasField("stalled_s"), hop=DOWN)
        before, begun = len(pull.media), time.monotonic()
        down = await measured(admin, room, video.track_sid, whole, hop=DOWN)
        rate = (len(pull.media) - before) / (time.monotonic() - begun)
        report = await report_of(admin, room, video.track_sid)
        assert {down.participant_identity} == await hidden(livekit, room)
    (up,) = measurements(report, UP)
    assert down.bitrate_bps.source == QUALITY_SOURCE_SUBSCRIBER_STATS
    # What came out of the session, and what went into the room.
    assert down.frames_per_second.value == pytest.approx(rate, rel=0.35)
    assert down.bitrate_bps.value == pytest.approx(up.bitrate_bps.value, rel=0.5)
    assert (down.width.value, down.height.value) == (320, 180)
    assert 0 <= down.rtt_ms.value < 2_000
    assert down.loss_before_repair.whole > 10
    assert down.loss_after_repair.whole > 10
    assert down.frozen.whole > 4
    assert not down.HasField("concealed")
    assert not down.HasField("brightness")


async def test_a_pulled_sound_is_measured_at_the_session(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with pulled(admin, room, tone.track_sid):
        down = await measured(admin, room, tone.track_sid, whole, hop=DOWN)
    assert down.concealed.whole == pytest.approx(48_000 * down.window.ToNanoseconds() / 1e9, rel=0.3)
    assert down.HasField("buffer_ms")
    assert down.audio_level.value == pytest.approx(0.1, rel=0.2)
    assert not down.HasField("frames_per_second")
    assert not down.HasField("width")
    assert not down.HasField("frozen")


async def test_the_end_of_a_pull_ends_what_is_told_of_it(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with pulled(admin, room, tone.track_sid):
        await measured(admin, room, tone.track_sid, lambda _: True, hop=DOWN)

    def gone(report: TrackQualityReport) -> bool:
        return bool(measurements(report, UP)) and not measurements(report, DOWN)

    await reported(admin, room, tone.track_sid, gone)


@pytest.mark.deadline(180)
async def test_loss_on_the_way_to_the_session_is_what_the_network_dropped(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    async with Relay() as relay:
        livekit = await start_livekit(behind(relay))
        track = await start_track(livekit)
        async with (
            existing_room(livekit, room_name),
            track.client("admin", room_admin=True, room=room_name) as admin,
        ):
            video = await publish(admin, room_name, pattern(640, 360, 30))
            others = list(relay.flows)
            async with pulled(admin, room_name, video.track_sid):
                flows = [flow for flow in relay.flows if flow not in others]
                for flow in flows:
                    flow.down.bounds = Bounds(loss=LOSS)
                down = await measured(
                    admin,
                    room_name,
                    video.track_sid,
                    lambda found: found.loss_before_repair.part > 25,
                    hop=DOWN,
                    window_s=60.0,
                )
            # The stream is that of which most came; retransmissions have another.
            passed = {ssrc: count.packets for flow in flows for ssrc, count in flow.down.counts.passed_by_ssrc.items()}
            ssrc = max(passed, key=lambda each: passed[each])
            dropped = sum(flow.down.counts.dropped_by_ssrc[ssrc].packets for flow in flows)
    lost = 100 * dropped / (dropped + passed[ssrc])
    assert down.loss_before_repair.percent == pytest.approx(lost, abs=4)
    # Nearly all of it came by retransmission.
    assert down.loss_after_repair.percent < down.loss_before_repair.percent / 2
