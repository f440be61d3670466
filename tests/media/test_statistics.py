"""From the SDK's statistics to ours: what WebRTC told, and nothing that it did not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest_asyncio
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import camera, microphone, participant
from track.media.v1.media_service_pb2 import HostedTrackStats, RtpStreamStats
from track.v1.quality_pb2 import (
    QUALITY_LIMITATION_BANDWIDTH,
    QUALITY_LIMITATION_CPU,
    QUALITY_LIMITATION_OTHER,
    QUALITY_LIMITATION_UNSPECIFIED,
)
from track.v1.quality_stats_pb2 import StreamStats
from track_server.media.pulling.stats import CHECK_S, RoundTrip, received
from track_server.media.stats import Loudness, available_bps, excuse_network, rtp_streams

DEADLINE_S: Final = 45.0
NOW_NS: Final = 1_800_000_000_000_000_000
SOUND: Final = {"total_samples_received", "concealed_samples", "silent_concealed_samples", "audio_level"}
VIDEO: Final = {"frames", "freeze_count", "nack_count", "frame_width", "frame_height"}


class Tracks:
    """A camera and a microphone, at who sends them and at who receives them, by kind."""

    def __init__(self) -> None:
        self.sent: dict[int, Any] = {}
        self.received: dict[int, Any] = {}

    async def stats(self, of: dict[int, Any], kind: int, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """The statistics of one, once they are enough."""
        async with asyncio.timeout(DEADLINE_S):
            while not enough(found := await of[kind].get_stats()):
                await asyncio.sleep(0.1)
        return list(found)


def inbound(stats: list[Any]) -> Any:
    return next((entry.inbound_rtp for entry in stats if entry.WhichOneof("stats") == "inbound_rtp"), None)


def came(stats: list[Any]) -> bool:
    entry = inbound(stats)
    return entry is not None and entry.received.packets_received > 5 and entry.inbound.jitter_buffer_emitted_count > 0


@pytest_asyncio.fixture
async def tracks(livekit: LiveKitProcess, room_name: str) -> AsyncIterator[Tracks]:
    found = Tracks()
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "bob") as bob,
        participant(livekit, room_name, "alice") as alice,
    ):
        alice.on("track_subscribed", lambda track, *_: found.received.update({track.kind: track}))
        sound = await microphone(bob)
        async with camera(bob) as video, asyncio.timeout(DEADLINE_S):
            found.sent = {each.track.kind: each.track for each in (sound, video) if each.track is not None}
            while len(found.received) < 2:
                await asyncio.sleep(0.05)
            yield found


def told(stream: StreamStats) -> set[str]:
    return {field.name for field, _ in stream.ListFields()}


async def test_what_is_received_of_a_video(tracks: Tracks) -> None:
    stats = await tracks.stats(tracks.received, rtc.TrackKind.KIND_VIDEO, came)
    entry = inbound(stats)
    found = received("TR_v", stats, 12.0, NOW_NS)
    assert found is not None
    assert not found.sent
    assert (found.track_sid, found.measure_time.ToNanoseconds()) == ("TR_v", NOW_NS)
    (stream,) = found.streams
    assert stream.ssrc == entry.stream.ssrc
    assert (stream.packets, stream.bytes) == (entry.received.packets_received, entry.inbound.bytes_received)
    assert stream.packets_lost == entry.received.packets_lost
    assert stream.frames == entry.inbound.frames_decoded > 0
    assert (stream.frame_width, stream.frame_height) == (320, 180)
    assert stream.rtt_ms == 12.0
    # The connection has an SSRC for retransmissions: that there were none is told.
    assert stream.HasField("retransmitted_packets")
    assert stream.last_packet_time.ToMicroseconds() == round(entry.inbound.last_packet_received_timestamp * 1e3)
    assert told(stream) & SOUND == set()
    # The SDK does not tell it (rtc 1.2.1), and its field reads 0.
    assert not stream.HasField("total_freezes_duration")


async def test_what_is_received_of_a_sound(tracks: Tracks) -> None:
    stats = await tracks.stats(tracks.received, rtc.TrackKind.KIND_AUDIO, came)
    entry = inbound(stats).inbound
    found = received("TR_a", stats, None, NOW_NS)
    assert found is not None
    (stream,) = found.streams
    assert stream.total_samples_received == entry.total_samples_received > 0
    assert stream.jitter_buffer_emitted_count == entry.jitter_buffer_emitted_count
    # Also what is 0.
    assert told(stream) >= SOUND
    assert told(stream) & VIDEO == set()
    assert not stream.HasField("rtt_ms")
    assert not stream.HasField("retransmitted_packets")


async def test_a_round_trip_that_nothing_renews_is_none(tracks: Tracks) -> None:
    stats = await tracks.stats(
        tracks.received, rtc.TrackKind.KIND_AUDIO, lambda found: RoundTrip().at(found, 0.0) is not None
    )
    trip = RoundTrip()
    first = trip.at(stats, 100.0)
    assert first is not None
    assert 0 <= first < 5_000
    assert trip.at(stats, 100.0 + CHECK_S) == first
    # The same answers still.
    assert trip.at(stats, 100.0 + CHECK_S + 1) is None
    assert RoundTrip().at([], 0.0) is None


async def test_what_is_sent_of_each_kind(tracks: Tracks) -> None:
    stats = await tracks.stats(
        tracks.sent,
        rtc.TrackKind.KIND_VIDEO,
        lambda found: any(stream.frame_width and stream.HasField("packets_lost") for stream in rtp_streams(found)),
    )
    (video,) = rtp_streams(stats)
    assert video.quality_limitation != QUALITY_LIMITATION_UNSPECIFIED
    assert (available_bps(stats) or 0) > 10_000
    assert Loudness().since(stats) is None
    stats = await tracks.stats(
        tracks.sent, rtc.TrackKind.KIND_AUDIO, lambda found: any(stream.packets_sent for stream in rtp_streams(found))
    )
    (sound,) = rtp_streams(stats)
    assert sound.quality_limitation == QUALITY_LIMITATION_UNSPECIFIED
    assert not sound.HasField("frames_sent")
    assert not sound.HasField("frame_width")


async def test_a_source_that_is_given_nothing_has_no_level(tracks: Tracks) -> None:
    """The microphone of these tests is fed with nothing: the SDK makes silence of it, once it has begun."""
    loudness = Loudness()
    sound = tracks.sent[rtc.TrackKind.KIND_AUDIO]
    first = await sound.get_stats()
    assert loudness.since(first) is None
    # No time has passed.
    assert loudness.since(first) is None


def test_the_network_is_excused_where_it_has_all_that_was_asked_for() -> None:
    def limited(reason: int, available: int | None) -> HostedTrackStats:
        found = HostedTrackStats(streams=[RtpStreamStats(quality_limitation=reason)])  # type: ignore[arg-type]
        if available is not None:
            found.available_bps = available
        return found

    tracks = [
        limited(QUALITY_LIMITATION_BANDWIDTH, 502_153),
        limited(QUALITY_LIMITATION_BANDWIDTH, 99_231),
        limited(QUALITY_LIMITATION_CPU, 502_153),
        limited(QUALITY_LIMITATION_BANDWIDTH, None),
    ]
    excuse_network(tracks, 241_920)
    assert [track.streams[0].quality_limitation for track in tracks] == [
        QUALITY_LIMITATION_OTHER,
        QUALITY_LIMITATION_BANDWIDTH,
        QUALITY_LIMITATION_CPU,
        QUALITY_LIMITATION_BANDWIDTH,
    ]
