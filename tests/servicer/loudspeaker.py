"""Rooms that echo: somebody who speaks, and a microphone that hears the loudspeaker beside it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import numpy as np
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.media.sounds import Wave, level_db
from tests.media.viewer import DEADLINE_S, Viewer, viewer
from tests.media.voices import RATE, STEP, pcm, reflections
from tests.participants import participant
from tests.servicer.pushing import Pusher, Request
from track.v1 import push_pb2

_SILENCE: Final = np.zeros(STEP)


class Mouth:
    """Says a sound over and over while it is ``open``, in steps of 10 ms, and nothing else."""

    def __init__(self, wave: Wave) -> None:
        self.open = False
        self._steps = wave[: len(wave) // STEP * STEP].reshape(-1, STEP)
        self._next = 0

    def step(self) -> Wave:
        """The next one."""
        if not self.open:
            return _SILENCE
        self._next += 1
        return np.asarray(self._steps[self._next % len(self._steps)])


@contextlib.asynccontextmanager
async def speaker(livekit: LiveKitProcess, room: str, identity: str, mouth: Mouth) -> AsyncIterator[str]:
    """A participant that says what the mouth says; the SID of its microphone."""
    async with participant(livekit, room, identity, auto_subscribe=False) as joined:
        source = rtc.AudioSource(RATE, 1, 100)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)

        async def speak() -> None:
            while True:
                await source.capture_frame(rtc.AudioFrame(pcm(mouth.step()), RATE, 1, STEP))

        speaking = asyncio.create_task(speak())
        try:
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
            publication = await joined.local_participant.publish_track(track, options)
            yield publication.sid
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            await source.aclose()


@contextlib.asynccontextmanager
async def microphone(seen: Viewer, played_sid: str, delay_s: float, near: Mouth, pusher: Pusher) -> AsyncIterator[None]:
    """Pushes what a microphone hears: ``near``, and a loudspeaker that plays the track, half as loud and ``delay_s``
    later, in a room that reverberates for a tenth of a second."""
    track = await seen.subscribe(played_sid)
    stream = rtc.AudioStream(track, num_channels=1, frame_size_ms=10)
    answer = np.fft.rfft(0.5 * reflections(), RATE // 10 + STEP)

    async def hear() -> None:
        air: deque[Wave] = deque([_SILENCE] * round(delay_s * 100))
        tail, number = np.zeros(RATE // 10 + STEP), 0
        async for event in stream:
            air.append(np.frombuffer(event.frame.data, dtype=np.int16) / 32768)
            tail = np.concatenate([tail[STEP:], _SILENCE])
            tail += np.fft.irfft(np.fft.rfft(air.popleft(), len(tail)) * answer, len(tail))
            data = pcm(tail[:STEP] + near.step())
            await pusher.send(Request(pcm=push_pb2.PcmFrame(timestamp_us=number * 10_000, data=data)))
            number += 1

    hearing = asyncio.create_task(hear())
    try:
        yield
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await stream.aclose()


class Heard:
    """What a participant hears of one track."""

    def __init__(self) -> None:
        self.steps: list[Wave] = []
        self.came = asyncio.Event()

    async def next(self, seconds: float) -> Wave:
        """What comes from now on."""
        begin, wanted = len(self.steps), round(seconds * 100)
        async with asyncio.timeout(DEADLINE_S + seconds):
            while len(self.steps) < begin + wanted:
                self.came.clear()
                await self.came.wait()
        return np.concatenate(self.steps[begin : begin + wanted])

    async def level(self, seconds: float) -> float:
        """Level of what comes from now on, in dB of full scale."""
        return level_db(await self.next(seconds))

    async def until_below(self, level: float) -> None:
        """Waits for a second that is quieter than that."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.level(1) >= level:
                pass

    async def until_above(self, level: float) -> None:
        """Waits for a second that is louder than that."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.level(1) <= level:
                pass


@contextlib.asynccontextmanager
async def hearing(livekit: LiveKitProcess, room: str, track_sid: str, identity: str = "hearer") -> AsyncIterator[Heard]:
    """A participant that hears the track."""
    heard = Heard()
    async with viewer(livekit, room, identity) as seen:
        stream: Any = rtc.AudioStream(await seen.subscribe(track_sid), num_channels=1, frame_size_ms=10)

        async def read() -> None:
            async for event in stream:
                heard.steps.append(np.frombuffer(event.frame.data, dtype=np.int16) / 32768)
                heard.came.set()

        reading = asyncio.create_task(read())
        try:
            yield heard
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await stream.aclose()
