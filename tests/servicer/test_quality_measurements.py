"""Measurements of hosted publications, from a real LiveKit: true numbers with source and age, or none.

What is true is what an independent subscriber's own statistics say of the same media.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, participant
from tests.publications import DATA, DEADLINE_S, TONE, pattern, publish
from tests.refusals import refusal
from tests.servicer.restarting import REPUBLISH, restart
from tests.track_process import Client
from track.v1 import publication_pb2, quality_pb2, track_pb2, tracks_pb2
from track.v1.quality_alert_pb2 import QUALITY_HOP_UPLINK

PUBLISHER = quality_pb2.QUALITY_SOURCE_PUBLISHER_STATS
SCORE = quality_pb2.QUALITY_SOURCE_SFU_SCORE
GOOD = (quality_pb2.QUALITY_LEVEL_GOOD, quality_pb2.QUALITY_LEVEL_EXCELLENT)
WINDOWS_S = (1, 5, 60)

SOUND = {"loss_before_repair", "loss_after_repair", "jitter_ms", "rtt_ms", "bitrate_bps", "stalled_s", "sfu_score"}
PICTURE = SOUND | {"frames_per_second", "width", "height"}
NUMBERS = PICTURE | {"frozen", "freezing_s", "concealed", "buffer_ms", "stuck_s"}


async def report_of(client: Client, room: str, sid: str, *windows_s: int) -> quality_pb2.TrackQualityReport:
    """GetQualityReport."""
    request = quality_pb2.GetQualityReportRequest(room=room, track_sid=sid)
    for window_s in windows_s:
        request.windows.add().FromSeconds(window_s)
    report: quality_pb2.TrackQualityReport = (await client.GetQualityReport(request)).report
    return report


async def until(
    client: Client,
    room: str,
    sid: str,
    condition: Callable[[quality_pb2.QualityMeasurement], Any],
    window_s: int = 5,
) -> quality_pb2.QualityMeasurement:
    """The first measurement of the track's uplink of which ``condition`` holds."""
    found = quality_pb2.TrackQualityReport()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await report_of(client, room, sid, window_s)
                for measurement in found.measurements:
                    assert measurement.hop == QUALITY_HOP_UPLINK
                    if condition(measurement):
                        return measurement
                await asyncio.sleep(0.3)
    raise AssertionError(f"it never came true; last: {found}")


def told(measurement: quality_pb2.QualityMeasurement) -> set[str]:
    """Which of the numbers are there."""
    return {name for name in NUMBERS if measurement.HasField(name)}  # type: ignore[arg-type]  # names of fields


def seconds(measurement: quality_pb2.QualityMeasurement) -> float:
    """The length of its window."""
    return measurement.window.ToNanoseconds() / 1e9


@dataclass
class Truth:
    """What a subscriber received between two looks at its own statistics."""

    bitrate_bps: float
    frames_per_second: float
    width: int


async def received(track: rtc.Track, span_s: float) -> Truth:
    """The subscriber's truth over ``span_s``."""

    async def look() -> Any:
        while True:
            for entry in await track.get_stats():
                if entry.WhichOneof("stats") == "inbound_rtp":
                    return entry.inbound_rtp
            # Nothing has come yet.
            await asyncio.sleep(0.1)

    before = await look()
    await asyncio.sleep(span_s)
    after = await look()
    passed_s = (after.rtc.timestamp - before.rtc.timestamp) / 1e6
    return Truth(
        bitrate_bps=8 * (after.inbound.bytes_received - before.inbound.bytes_received) / passed_s,
        frames_per_second=(after.inbound.frames_decoded - before.inbound.frames_decoded) / passed_s,
        width=after.inbound.frame_width,
    )


@contextlib.asynccontextmanager
async def subscribed(livekit: LiveKitProcess, room: str, sid: str) -> AsyncIterator[rtc.Track]:
    """An independent participant's subscription to the track."""
    async with participant(livekit, room, "guest") as guest, asyncio.timeout(DEADLINE_S):
        while True:
            for one in guest.remote_participants.values():
                known = one.track_publications.get(sid)
                if known is not None and known.track is not None:
                    yield known.track
                    return
            await asyncio.sleep(0.05)


async def mute(client: Client, room: str, sid: str) -> None:
    """MuteTracks, until it shows."""
    request = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)])
    await client.MuteTracks(request, timeout=DEADLINE_S)


async def test_a_video_is_measured_as_its_subscriber_has_it(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    video = await publish(admin, room, pattern(320, 180, 15, simulcast=False))

    async with subscribed(livekit, room, video.track_sid) as track:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                # The encoder finds its rate first, and a busy machine has seconds that are unlike one another.
                truth = await received(track, 5.0)
                found = (await report_of(admin, room, video.track_sid, 5)).measurements[0]
                if (
                    truth.width == found.width.value
                    and truth.bitrate_bps == pytest.approx(found.bitrate_bps.value, rel=0.2)
                    and truth.frames_per_second == pytest.approx(found.frames_per_second.value, abs=2)
                ):
                    break
    assert truth.bitrate_bps > 10_000
    assert truth.frames_per_second > 5
    assert found.height.value == truth.width * 9 / 16


async def test_every_number_of_an_uplink_has_its_source_and_age_and_the_rest_is_absent(
    admin: Client, room: str
) -> None:
    video = await publish(admin, room, pattern(960, 540, 10), "host")
    tone = await publish(admin, room, TONE, "host")
    data = await publish(admin, room, DATA, "host")

    def whole(found: quality_pb2.QualityMeasurement) -> bool:
        # What a busy machine makes less of for a while is waited for.
        return (
            told(found) == PICTURE
            and [told(layer) for layer in found.layers] == [PICTURE - {"sfu_score"}] * 3
            and found.width.value == 960
            and found.level in GOOD
            and found.loss_after_repair.percent < 2
        )

    seen = await until(admin, room, video.track_sid, whole)
    assert seen.participant_identity == "host"
    assert [(layer.rid, layer.width.value, layer.height.value) for layer in seen.layers] == [
        ("q", 320, 180), ("h", 640, 360), ("f", 960, 540),
    ]  # fmt: skip
    assert len({layer.ssrc for layer in seen.layers}) == 3
    assert sum(layer.bitrate_bps.value for layer in seen.layers) == pytest.approx(seen.bitrate_bps.value, rel=0.01)
    assert sum(layer.loss_after_repair.whole for layer in seen.layers) == pytest.approx(seen.loss_after_repair.whole)
    assert seen.limitation != quality_pb2.QUALITY_LIMITATION_UNSPECIFIED
    assert 1 <= seen.video_index <= 5
    assert not seen.HasField("audio_mos")
    for name in told(seen):
        number = getattr(seen, name)
        assert number.source == (SCORE if name == "sfu_score" else PUBLISHER), name
        # LiveKit's score is told once, and stands.
        assert name == "sfu_score" or 0 <= number.age.ToNanoseconds() / 1e9 < 20, name
    assert seen.loss_after_repair.whole > 10
    assert 0 <= seen.rtt_ms.value < 2_000

    def sounds(found: quality_pb2.QualityMeasurement) -> bool:
        return told(found) == SOUND and found.level in GOOD and found.loss_after_repair.percent < 2

    heard = await until(admin, room, tone.track_sid, sounds)
    assert not heard.layers
    assert not heard.HasField("video_index")
    assert heard.limitation == quality_pb2.QUALITY_LIMITATION_UNSPECIFIED
    assert 1 <= heard.audio_mos <= 4.5
    assert 5_000 < heard.bitrate_bps.value < 200_000
    assert heard.loss_before_repair.part == heard.loss_after_repair.part, "sound is not retransmitted"

    pushed = await report_of(admin, room, data.track_sid)
    assert not pushed.measurements
    assert pushed.type == track_pb2.TRACK_TYPE_DATA


async def test_windows_are_as_long_as_asked_for_or_as_long_as_there_is(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    await until(admin, room, tone.track_sid, lambda found: seconds(found) >= 7, window_s=60)
    found = (await report_of(admin, room, tone.track_sid, 60, 1, 5)).measurements
    assert [seconds(each) for each in found[:2]] == pytest.approx(WINDOWS_S[:2], abs=2.5)
    assert seconds(found[0]) < seconds(found[1]) < seconds(found[2]) < 60


async def test_of_a_clients_track_nothing_is_measured_without_a_companion(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        found = await until(admin, room, cam.sid, lambda found: found.HasField("sfu_score"))
    assert told(found) == {"sfu_score"}
    assert found.level == quality_pb2.QUALITY_LEVEL_UNSPECIFIED, "never a level from missing data"
    assert not found.HasField("window")


async def test_a_mute_begins_a_new_window_and_is_no_stall(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    await until(admin, room, tone.track_sid, lambda found: seconds(found) >= 3, window_s=60)
    loop = asyncio.get_running_loop()
    muted_at = loop.time()
    await mute(admin, room, tone.track_sid)
    async with asyncio.timeout(DEADLINE_S):
        while not (report := await report_of(admin, room, tone.track_sid, 60)).muted:
            await asyncio.sleep(0.1)
    for found in report.measurements:
        assert not found.HasField("stalled_s")
        assert seconds(found) <= loop.time() - muted_at + 0.5


async def test_a_track_that_comes_back_under_another_sid_is_measured_anew(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    await until(admin, room, tone.track_sid, lambda found: seconds(found) >= 3, window_s=60)
    loop = asyncio.get_running_loop()
    restarted_at = loop.time()
    answer = await restart(admin, tone, REPUBLISH)
    again: publication_pb2.Publication = answer.publication
    assert again.track_sid != tone.track_sid
    found = await until(admin, room, again.track_sid, lambda found: seconds(found) > 0, window_s=60)
    assert seconds(found) <= loop.time() - restarted_at + 0.5
    report = await report_of(admin, room, again.track_sid)
    assert report.publication_id == tone.publication_id
    refused = await refusal(
        admin.GetQualityReport(quality_pb2.GetQualityReportRequest(room=room, track_sid=tone.track_sid))
    )
    assert refused.reason == "TRACK_NOT_FOUND"
