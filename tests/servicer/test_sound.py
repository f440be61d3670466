"""Sound that this service hosts: two channels, processing, and what of it a subscriber hears."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.livekit_process import LiveKitProcess
from tests.media.clips import RATE, write_sound
from tests.media.sounds import Wave, heard_of, level_db, pitch_hz, sine, strength_db
from tests.media.viewer import viewer
from tests.publications import TONE, publish, track_of
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb


@pytest.fixture
def sound(track: TrackProcess, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Writes channels of sound into the media folder; gives the URI."""

    def write(*channels: Wave) -> str:
        name = f"{request.node.name[:40]}-{len(channels)}.wav".replace("/", "-")
        return write_sound(Path(track.directory) / "media" / name, *channels).name

    return write


async def test_two_channels_arrive_apart(
    admin: Client, livekit: LiveKitProcess, room: str, sound: Callable[..., str]
) -> None:
    uri = sound(sine(600, 2), sine(1500, 2))
    publication = await publish(admin, room, heard_of(uri, stereo=True))
    assert not publication.spec.audio.red
    assert publication.spec.audio.max_bitrate_bps == 96_000
    assert (await track_of(admin, publication)).stereo
    async with viewer(livekit, room) as seen:
        left, right = await seen.channels(publication.track_sid, 1.5)
    assert pitch_hz(left[24_000:]) == pytest.approx(600, abs=5)
    assert pitch_hz(right[24_000:]) == pytest.approx(1500, abs=5)
    assert strength_db(left, 600) - strength_db(left, 1500) > 30
    assert strength_db(right, 1500) - strength_db(right, 600) > 30


async def test_two_channels_are_mixed_down_unless_asked_for(
    admin: Client, livekit: LiveKitProcess, room: str, sound: Callable[..., str]
) -> None:
    publication = await publish(admin, room, heard_of(sound(sine(600, 2), sine(1500, 2))))
    assert publication.spec.audio.red
    assert not (await track_of(admin, publication)).stereo
    async with viewer(livekit, room) as seen:
        for channel in await seen.channels(publication.track_sid, 1.5):
            assert abs(strength_db(channel, 600) - strength_db(channel, 1500)) < 6


async def test_a_participant_that_sounds_already_may_go_on_in_two_channels(
    admin: Client, livekit: LiveKitProcess, room: str, sound: Callable[..., str]
) -> None:
    tone = await publish(admin, room, TONE, "host")
    stereo = await publish(admin, room, heard_of(sound(sine(600, 2), sine(1500, 2)), stereo=True), "host")
    known = await admin.ListPublications(pb.ListPublicationsRequest(room=room))
    sids = {found.publication_id: found.track_sid for found in known.publications}
    async with viewer(livekit, room) as seen:
        left, _ = await seen.channels(sids[stereo.publication_id], 1.5)
        mono = await seen.sound(sids[tone.publication_id], 1.5)
    assert pitch_hz(left[24_000:]) == pytest.approx(600, abs=5)
    assert pitch_hz(mono[24_000:]) == pytest.approx(440, abs=5)


async def test_noise_suppression_takes_noise_out_and_leaves_what_is_said(
    admin: Client, livekit: LiveKitProcess, room: str, sound: Callable[..., str]
) -> None:
    # Half a second of voice-like sound, half a second of nothing, and noise all the time.
    seconds, noise = 8, np.random.default_rng(1).normal(0, 0.02, 8 * RATE)
    times = np.arange(seconds * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * hz * times) for hz in (180, 360, 540, 900, 1400)) * 0.08
    said = voice * (times % 1 < 0.5) * (1 + np.sin(2 * np.pi * 5 * times)) / 2
    uri = sound(np.asarray(said + noise))
    raw, clean = await asyncio.gather(
        publish(admin, room, heard_of(uri), "raw"), publish(admin, room, heard_of(uri, noise_suppression=True), "clean")
    )
    assert not raw.spec.audio.noise_suppression
    async with viewer(livekit, room) as seen:
        waves = await asyncio.gather(*(seen.sound(found.track_sid, 6) for found in (raw, clean)))

    def quiet_and_loud(wave: Wave) -> tuple[float, float]:
        levels = sorted(level_db(wave[begin : begin + 4800]) for begin in range(96_000, len(wave) - 4800, 4800))
        return levels[len(levels) // 5], levels[-len(levels) // 5]

    (raw_quiet, raw_loud), (clean_quiet, clean_loud) = map(quiet_and_loud, waves)
    assert raw_quiet - clean_quiet > 8, (waves, "the pauses are quieter")
    assert raw_loud - clean_loud < 6, "what is said stays"


async def test_gain_control_makes_quiet_sound_louder(
    admin: Client, livekit: LiveKitProcess, room: str, sound: Callable[..., str]
) -> None:
    times = np.arange(6 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * hz * times) for hz in (180, 360, 540, 900)) * 0.008
    uri = sound(np.asarray(voice * (1 + np.sin(2 * np.pi * 4 * times)) / 2))
    as_it_is, louder = await asyncio.gather(
        publish(admin, room, heard_of(uri), "raw"), publish(admin, room, heard_of(uri, auto_gain_control=True), "even")
    )
    async with viewer(livekit, room) as seen:
        plain, even = await asyncio.gather(*(seen.sound(found.track_sid, 5) for found in (as_it_is, louder)))
    assert level_db(even[-96_000:]) - level_db(plain[-96_000:]) > 3
