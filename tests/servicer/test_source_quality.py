"""Hosted sources that are silent or black are told from those that are not."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable

import pytest

from tests.media.encoded import FPS, HEIGHT, WIDTH, encoded
from tests.publications import LIVE, TONE, pattern, publish, until
from tests.servicer import pushing as push
from tests.servicer.measured import measured
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import tracks_pb2
from track.v1.quality_pb2 import QUALITY_SOURCE_PUBLISHER_STATS, QualityMeasurement

BLACK = bytes([16]) * (WIDTH * HEIGHT) + bytes([128]) * (WIDTH * HEIGHT // 2)


@contextlib.asynccontextmanager
async def pushed(
    client: Client, room: str, spec: pb.PublicationSpec, requests: Iterable[push.Request]
) -> AsyncIterator[pb.Publication]:
    """A publication of these frames, live."""
    known = await push.publish_push(client, room, spec)
    async with push.pushing(client, known) as pusher:
        await pusher.ready()
        playing = asyncio.create_task(pusher.play(requests))
        try:
            yield await until(client, known, lambda found: found.state == LIVE)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


def bright(found: QualityMeasurement) -> bool:
    return found.HasField("brightness")


async def test_black_pictures_are_told_and_a_test_pattern_is_none(admin: Client, room: str) -> None:
    shown = await publish(admin, room, pattern(), "host")
    pictures = (push.raw(number, BLACK) for number in itertools.count())
    async with pushed(admin, room, push.push_spec("raw_video"), pictures) as black:
        found = await measured(admin, room, black.track_sid, bright)
        assert found.brightness.value == 0
        assert found.brightness.source == QUALITY_SOURCE_PUBLISHER_STATS
        assert found.HasField("bitrate_bps")
        assert not found.HasField("audio_level")
    seen = await measured(admin, room, shown.track_sid, bright)
    assert 0.3 < seen.brightness.value < 0.5


async def test_silence_is_told_and_a_tone_is_none(admin: Client, room: str) -> None:
    heard = await publish(admin, room, TONE, "host")
    silence = (push.sound(number / 10, 0.1, 48_000, 0.0) for number in itertools.count())
    async with pushed(admin, room, push.push_spec("pcm"), silence) as silent:
        found = await measured(admin, room, silent.track_sid, lambda found: found.HasField("audio_level"))
        assert found.audio_level.value == 0
        assert found.audio_level.source == QUALITY_SOURCE_PUBLISHER_STATS
        assert not bright(found)
    # A sine of -20 dB of full scale, once a whole second of it was heard.
    level = pytest.approx(0.1, rel=0.05)
    assert await measured(admin, room, heard.track_sid, lambda found: found.audio_level.value == level)


async def test_what_comes_encoded_is_not_looked_at(admin: Client, room: str) -> None:
    units = encoded("vp8", FPS)
    requests = (push.unit(number, units[number % FPS], keyframe=number % FPS == 0) for number in itertools.count())
    async with pushed(admin, room, push.push_spec("encoded_video"), requests) as known:
        found = await measured(admin, room, known.track_sid, lambda found: found.bitrate_bps.value > 0)
        assert not bright(found)


async def test_a_muted_source_has_neither_level_nor_brightness(admin: Client, room: str) -> None:
    """Though its frames go on, and the SDK tells of them."""
    heard = await publish(admin, room, TONE, "host")
    shown = await publish(admin, room, pattern(), "host")
    refs = [tracks_pb2.TrackRef(track_sid=known.track_sid) for known in (heard, shown)]
    await measured(admin, room, heard.track_sid, lambda found: found.audio_level.value > 0)
    await measured(admin, room, shown.track_sid, bright)
    await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=refs), timeout=45)

    def mute(found: QualityMeasurement) -> bool:
        return found.HasField("bitrate_bps") and not found.HasField("audio_level") and not bright(found)

    await measured(admin, room, heard.track_sid, mute)
    await measured(admin, room, shown.track_sid, mute)
    await admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=refs), timeout=45)
    await measured(admin, room, heard.track_sid, lambda found: found.audio_level.value > 0)
    await measured(admin, room, shown.track_sid, bright)
