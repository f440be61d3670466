"""The ear of a session: it hears what it is told to, and stays for as long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from livekit import api, rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api, participants
from tests.media.sounds import Wave, level_db, pitch_hz
from tests.media.viewer import DEADLINE_S
from tests.media.voices import RATE, STEP, pcm
from track.media.v1.media_service_pb2 import SessionDesired, SessionHearing
from track_server.livekit.tokens import TokenMint
from track_server.media.ear import Ear
from track_server.media.far_end import FarEnd
from track_server.media.joins import Joins

KEY = b"between-us-and-nobody-else"
SILENT_DB = -60


class Hearing:
    """An ear, and what comes of it."""

    def __init__(self, livekit: LiveKitProcess, room: str) -> None:
        self._token = TokenMint(livekit.api_key, livekit.api_secret).ear(room, "track-ear-1")
        self._far_end = FarEnd()
        self.joins = Joins()
        self.ear = Ear(self.joins, livekit.url, self._far_end)

    def want(self, *sids: str, key: bytes = b"") -> None:
        """Have it hear these."""
        hearing = SessionHearing(token=self._token, track_sids=sids)
        self.ear.want(SessionDesired(hearing=hearing, encryption_key=key))

    async def until(self, condition: Callable[[Wave], bool]) -> None:
        """Waits for half a second of which it holds."""
        async with asyncio.timeout(DEADLINE_S):
            with self._far_end.listening() as listener:
                while True:
                    taken = []
                    for _ in range(50):
                        taken.append(np.frombuffer(listener.take(), dtype=np.int16) / 32768)
                        await asyncio.sleep(0.01)
                    if condition(np.concatenate(taken)):
                        return


def silent(wave: Wave) -> bool:
    """Whether nothing is heard."""
    return level_db(wave) < SILENT_DB


def pitch(*hz: float) -> Callable[[Wave], bool]:
    """Whether the loudest is one of them."""
    return lambda wave: level_db(wave) > -30 and any(abs(pitch_hz(wave) - each) < 10 for each in hz)


@contextlib.asynccontextmanager
async def hearing(livekit: LiveKitProcess, room: str) -> AsyncIterator[Hearing]:
    """One, for the span of the block."""
    found = Hearing(livekit, room)
    running = asyncio.create_task(found.ear.run())
    try:
        yield found
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await found.joins.settle(5)


@contextlib.asynccontextmanager
async def sounding(
    livekit: LiveKitProcess, room: str, identity: str, hz: float, key: bytes = b""
) -> AsyncIterator[rtc.LocalAudioTrack]:
    """A participant that sounds a tone."""
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=room))
    options = rtc.RoomOptions(auto_subscribe=False)
    if key:
        options.encryption = rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=key))
    joined, source = rtc.Room(), rtc.AudioSource(RATE, 1, 100)
    await joined.connect(livekit.url, token.to_jwt(), options)

    async def sound() -> None:
        number = 0
        while True:
            step = np.sin(2 * np.pi * hz * (number * STEP + np.arange(STEP)) / RATE) * 0.25
            await source.capture_frame(rtc.AudioFrame(pcm(step), RATE, 1, STEP))
            number += 1

    playing = asyncio.create_task(sound())
    try:
        track = rtc.LocalAudioTrack.create_audio_track("tone", source)
        published = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        await joined.local_participant.publish_track(track, published)
        yield track
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await joined.disconnect()
        await source.aclose()


async def test_it_hears_what_it_is_told_to_while_that_sounds(livekit: LiveKitProcess, room: str) -> None:
    async with hearing(livekit, room) as heard, sounding(livekit, room, "a", 600) as low:
        async with sounding(livekit, room, "b", 1500) as high:
            heard.want(low.sid)
            await heard.until(pitch(600))
            heard.want(high.sid)
            await heard.until(pitch(1500))
            high.mute()
            await heard.until(silent)
            high.unmute()
            await heard.until(pitch(1500))
        await heard.until(silent)
        heard.want("TR_none", low.sid)
        await heard.until(pitch(600))


async def test_it_is_in_the_room_while_something_is_wanted_and_comes_back(livekit: LiveKitProcess, room: str) -> None:
    async with hearing(livekit, room) as heard, sounding(livekit, room, "a", 600) as tone:
        assert not await participants(livekit, room, hidden=True)
        heard.want(tone.sid)
        await heard.until(pitch(600))
        async with livekit_api(livekit) as client:
            await client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity="track-ear-1"))
        await heard.until(silent)
        await heard.until(pitch(600))
        heard.ear.want(SessionDesired())
        await heard.until(silent)
        async with asyncio.timeout(DEADLINE_S):
            while await participants(livekit, room, hidden=True):
                await asyncio.sleep(0.05)
        heard.want(tone.sid)
        await heard.until(pitch(600))


@pytest.mark.parametrize("key", [KEY, b""])
async def test_with_a_key_it_hears_what_is_encrypted_and_what_is_not(
    livekit: LiveKitProcess, room: str, key: bytes
) -> None:
    async with hearing(livekit, room) as heard, sounding(livekit, room, "a", 600, key) as tone:
        heard.want(tone.sid, key=KEY)
        await heard.until(pitch(600))
