"""What the companion in Chromium measures: the page's own getStats, number for number, while the room is followed."""

import asyncio
from collections.abc import Sequence
from typing import Any

from livekit import rtc

from tests.clients.browser.app import DEADLINE_S, App
from tests.clients.browser.plans import app_video
from tests.clients.browser.plans import camera as app_camera
from tests.clients.following import following
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, participant
from tests.states import hearing
from track.control.v1 import control_pb2 as control
from track.v1.quality_pb2 import QUALITY_LIMITATION_OTHER
from track.v1.quality_stats_pb2 import StreamStats, TrackStats
from track_server.durations import seconds_of
from track_server.quality.core.measuring.reading import Hop

Stats = list[dict[str, Any]]

COMMON = {"nack_count": "nackCount"}
SENT = {
    "packets": "packetsSent", "bytes": "bytesSent", "frames": "framesSent",
    "retransmitted_packets": "retransmittedPacketsSent", "retransmitted_bytes": "retransmittedBytesSent",
}  # fmt: skip
RECEIVED = {
    "packets": "packetsReceived", "bytes": "bytesReceived", "frames": "framesDecoded", "packets_lost": "packetsLost",
    "freeze_count": "freezeCount", "total_freezes_duration": "totalFreezesDuration",
    "concealed_samples": "concealedSamples", "silent_concealed_samples": "silentConcealedSamples",
    "total_samples_received": "totalSamplesReceived", "jitter_buffer_delay": "jitterBufferDelay",
    "jitter_buffer_emitted_count": "jitterBufferEmittedCount",
}  # fmt: skip


async def tone(joined: rtc.Room) -> tuple[rtc.LocalTrackPublication, asyncio.Task[None]]:
    """A microphone that hears a square wave, and what feeds it."""
    source = rtc.AudioSource(48000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("mic", source)
    frame = rtc.AudioFrame((b"\x00\x10" * 24 + b"\x00\xf0" * 24) * 10, 48000, 1, 480)

    async def feed() -> None:
        while True:
            await source.capture_frame(frame)

    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    return await joined.local_participant.publish_track(track, options), asyncio.create_task(feed())


def of_stream(found: Stats, kind: str, ssrc: int) -> dict[str, Any]:
    """The page's own entry of that stream; empty where there is none."""
    return next((one for one in found if one["type"] == kind and one.get("ssrc") == ssrc), {})


def number(stream: StreamStats, name: str) -> float:
    value = getattr(stream, name)
    return seconds_of(value) if name in ("total_freezes_duration", "jitter_buffer_delay") else float(value)


def lies_between(before: Stats, told: TrackStats, after: Stats) -> None:
    """Each counter that was told lies between those of the page's own getStats before and after it; what the page does
    not know was not told."""
    kind, names = ("outbound-rtp", SENT) if told.sent else ("inbound-rtp", RECEIVED)
    for each in told.streams:
        stream: Any = each
        first, last = (of_stream(found, kind, stream.ssrc) for found in (before, after))
        assert first
        for name, own in {**COMMON, **names}.items():
            if own in first:
                assert stream.HasField(name), name
                assert first[own] - 1e-6 <= number(stream, name) <= last[own] + 1e-6, name
            elif own not in last:
                assert not stream.HasField(name), name
        assert (stream.frame_width or None) in (first.get("frameWidth"), last.get("frameWidth"))
        assert (stream.frame_height or None) in (first.get("frameHeight"), last.get("frameHeight"))


async def told_of(alice: App, pair: dict[str, Any], *, sent: bool, most: float = 240_000.0) -> dict[str, Any]:
    """What the companion tells of a stream of video whose encoder bandwidth holds back, over that candidate pair."""
    rtp = {
        "id": "S", "type": "outbound-rtp" if sent else "inbound-rtp", "ssrc": 7, "timestamp": 1.8e12,
        "qualityLimitationReason": "bandwidth",
    }  # fmt: skip
    transport = {"id": "T", "type": "transport", "selectedCandidatePairId": "P"}
    entries = [rtp, transport, {"id": "P", "type": "candidate-pair", **pair}]
    found = await alice.page.call("measured", entries, sent, most)
    stream: dict[str, Any] = found["streams"][0]
    return stream


async def test_the_network_is_excused_where_it_has_room_for_all_that_may_be_sent(alice: App) -> None:
    for available, reason in ((502_153, "OTHER"), (240_000, "OTHER"), (99_231, "BANDWIDTH"), (None, "BANDWIDTH")):
        pair = {} if available is None else {"availableOutgoingBitrate": available}
        stream = await told_of(alice, pair, sent=True)
        assert stream["qualityLimitation"] == f"QUALITY_LIMITATION_{reason}", available


async def test_an_encoder_that_keeps_to_its_own_bound_is_not_held_back_by_the_network(alice: App) -> None:
    """Chromium makes its pictures as small as 200 kbit/s are good for, over a line that carries more."""
    await alice.attach()
    plan = app_camera(width=1280, height=720, frames_per_second=30, simulcast=False, max_bitrate_bps=200_000)
    sid = (await alice.done(plan)).track_sid
    own: Any = None
    told: Any = None
    async with asyncio.timeout(DEADLINE_S):
        while (own, told) != ("bandwidth", QUALITY_LIMITATION_OTHER):
            found: Stats = await alice.page.call("statistics", sid)
            own = next((one.get("qualityLimitationReason") for one in found if one["type"] == "outbound-rtp"), None)
            stats = (await alice.done(control.GetStats(track_sids=[sid]))).stats
            told = next((stream.quality_limitation for each in stats for stream in each.streams), None)
            await asyncio.sleep(0.2)


async def test_a_round_trip_of_nothing_is_told_once_an_answer_came(alice: App) -> None:
    for pair, rtt in (
        ({"currentRoundTripTime": 0.025}, 25),
        ({"currentRoundTripTime": 0, "responsesReceived": 3}, 0),
        ({"currentRoundTripTime": 0, "responsesReceived": 0}, None),
        ({"currentRoundTripTime": 0}, None),
        ({"responsesReceived": 3}, None),
    ):
        assert (await told_of(alice, pair, sent=False)).get("rttMs") == rtt, pair


async def test_the_numbers_are_those_of_the_pages_own_getstats_and_come_while_the_room_is_followed(
    livekit: LiveKitProcess, alice: App, room: str
) -> None:
    async with (
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        hearing(livekit, room) as heard,
        following(heard) as followed,
    ):
        mic, feeding = await tone(bob)
        try:
            await alice.attach(app={"canvas": [960, 540]})
            published = await alice.done(app_video(width=960, height=540, frames_per_second=20, simulcast=True))
            canvas = published.track_sid
            told: dict[str, list[TrackStats]] = {}

            def record(_: object, __: object, stats: Sequence[TrackStats]) -> None:
                for each in stats:
                    told.setdefault(each.track_sid, []).append(each)

            heard.attendance.listen(record)
            await heard.until(lambda: heard.subscribed("alice", cam.sid) is True)
            assert told == {}
            followed.assessing.follow("test", room)
            for sid, hop in ((canvas, Hop.UPLINK), (cam.sid, Hop.DOWNLINK), (mic.sid, Hop.DOWNLINK)):
                await followed.until(lambda sid=sid, hop=hop: followed.rated(sid, hop, "alice"))  # type: ignore[misc]
            for sid in (canvas, cam.sid, mic.sid):
                before: Stats = await alice.page.call("statistics", sid)
                begun_s = max(one["timestamp"] for one in before) / 1000

                async def later(sid: str = sid, begun_s: float = begun_s) -> TrackStats:
                    async with asyncio.timeout(DEADLINE_S):
                        while not (found := [each for each in told[sid] if seconds_of(each.measure_time) > begun_s]):
                            await asyncio.sleep(0.05)
                    return found[0]

                one = await later()
                lies_between(before, one, await alice.page.call("statistics", sid))
                assert one.sent is (sid == canvas)
            # The layers of what it sends, with what LiveKit reports of them and the encoder says of itself.
            await followed.until(
                lambda: any(
                    stream.HasField("remote_time") and stream.HasField("packets_lost") and stream.HasField("rtt_ms")
                    for stream in told[canvas][-1].streams
                )
            )
            assert {stream.rid for stream in told[canvas][-1].streams} >= {"q", "h"}
            assert all(stream.quality_limitation for stream in told[canvas][-1].streams)
            up = followed.sample(canvas, Hop.UPLINK, "alice")
            assert up is not None
            assert up.cpu_limited is not None
            # What it receives: the tone is heard, the way there and back is known.
            sound = told[mic.sid][-1].streams[0]
            assert 0.05 < sound.audio_level < 0.3
            assert sound.HasField("rtt_ms")
            assert 0 <= seconds_of(told[mic.sid][-1].measure_time) - seconds_of(sound.last_packet_time) < 5
            down = followed.sample(cam.sid, Hop.DOWNLINK, "alice")
            assert down is not None
            assert down.rtt_ms is not None
            assert (down.width and down.width.value) == 320
            # It is told to stop, and goes on reporting its state.
            followed.assessing.release("test", room)
            await followed.until(lambda: followed.intervals() == {"alice": None})
            count = sum(map(len, told.values()))
            for value in (0.25, 0.5):
                await alice.page.call("tell", {"cpuLoad": value})
                await alice.page.call("style", f"width: {round(400 * value)}px")
                await heard.until(lambda value=value: heard.of("alice").cpu_load == value)  # type: ignore[misc]
            assert sum(map(len, told.values())) == count
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
