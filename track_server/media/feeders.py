"""Feeders: what turns an input of the contract into frames of an SDK source."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final

from livekit import rtc

from track.v1.publication_pb2 import AudioOptions, PublicationSpec, ToneInput
from track.v1.track_pb2 import TrackType
from track_server import mediafile
from track_server.durations import seconds_of
from track_server.media.far_end import FarEnd
from track_server.media.feeder import Feeder
from track_server.media.inputs.decoder import AudioDecoder, Chunk, VideoDecoder
from track_server.media.inputs.pattern import TestPattern
from track_server.media.inputs.player import Player
from track_server.media.inputs.timeline import Beat, Timelines
from track_server.media.inputs.tone import Tone
from track_server.media.options import track_type
from track_server.media.pictures import Pictures
from track_server.media.sound import Sound, channels_of

_DEFAULT_FREQUENCY_HZ: Final = 440.0
_DEFAULT_LEVEL_DBFS: Final = -20.0
_HASTE_RATE: Final = 100.0
"""Pictures a second until the first is sure to be sent. The SDK drops what is too much; but the encoder, once it is
connected, has one at once: a simulcast track of 720p30 is in the room after 143 ms instead of 163."""
_HASTE_S: Final = 0.2
_AUDIO_LEAD_S: Final = 0.04
"""Sound is handed over so much earlier than pictures: a receiver's jitter buffer keeps it for 30 ms on an idle machine,
and for more on a busy one."""


async def _beats(rate: Callable[[], float], live: asyncio.Event) -> AsyncIterator[None]:
    """Moments to show a picture: 1/`rate()` seconds apart, and closer until the track has been live for a while."""
    beat = Beat(_HASTE_RATE)
    calm_at = math.inf
    while time.monotonic() < calm_at:
        await beat.next()
        yield
        if live.is_set() and calm_at == math.inf:
            calm_at = time.monotonic() + _HASTE_S
    beat = Beat(rate())
    while True:
        beat.pace(rate())
        await beat.next()
        yield


class PatternFeeder:
    """The video test pattern."""

    def __init__(self, width: int, height: int, frames_per_second: float) -> None:
        self._pattern = TestPattern(width, height)
        self._rate = frames_per_second
        self._pictures = Pictures(width, height)

    def create_track(self, name: str) -> rtc.LocalVideoTrack:
        return self._pictures.create_track(name)

    async def open(self) -> None:
        pass

    async def produce(self, live: asyncio.Event) -> None:
        # It begins at once, not when it is live: the first packet is what makes LiveKit announce the track.
        async for _ in _beats(lambda: self._rate, live):
            self._pattern.paint_now()
            self._pictures.show(self._pattern.buffer)

    def change(self, spec: PublicationSpec) -> None:
        self._rate = spec.video.frames_per_second

    def brightness(self) -> float | None:
        return self._pictures.brightness()

    async def aclose(self) -> None:
        await self._pictures.aclose()


class ToneFeeder:
    """A tone."""

    def __init__(self, tone: ToneInput, audio: AudioOptions, far_end: FarEnd) -> None:
        self._tone = Tone(*_heard(tone), channels_of(audio))
        self._sound = Sound(audio, far_end)

    def create_track(self, name: str) -> rtc.LocalAudioTrack:
        return self._sound.create_track(name)

    async def open(self) -> None:
        pass

    async def produce(self, live: asyncio.Event) -> None:
        # The source's queue sets the pace: it takes a frame when it has room for one.
        while True:
            await self._sound.play(self._tone.next_frame())

    def change(self, spec: PublicationSpec) -> None:
        self._tone.change(*_heard(spec.tone))

    async def aclose(self) -> None:
        await self._sound.aclose()


def _heard(tone: ToneInput) -> tuple[float, float]:
    """Frequency in hertz and level in dB relative to full scale."""
    level = tone.level_dbfs if tone.HasField("level_dbfs") else _DEFAULT_LEVEL_DBFS
    return tone.frequency_hz or _DEFAULT_FREQUENCY_HZ, level


class FileVideoFeeder:
    """The pictures of a file."""

    def __init__(self, player: Player, width: int, height: int, frames_per_second: float, held: contextlib.ExitStack):
        self._player, self._held = player, held
        self._rate = frames_per_second
        self._pictures = Pictures(width, height)

    def create_track(self, name: str) -> rtc.LocalVideoTrack:
        return self._pictures.create_track(name)

    async def open(self) -> None:
        await self._player.open()

    async def produce(self, live: asyncio.Event) -> None:
        # Its first picture stands until the track is live, or its beginning would play to nobody.
        async for _ in _beats(lambda: self._rate, live):
            if live.is_set() or self._player.first is None:
                break
            await self._show(self._player.first)
        await self._player.play(self._show)

    def change(self, spec: PublicationSpec) -> None:
        self._player.loop = spec.file.loop

    def brightness(self) -> float | None:
        return self._pictures.brightness()

    async def _show(self, chunk: Chunk) -> None:
        self._pictures.show(chunk.data)

    async def aclose(self) -> None:
        self._held.close()
        await self._player.aclose()
        await self._pictures.aclose()


class FileAudioFeeder:
    """The sound of a file."""

    def __init__(self, player: Player, sound: Sound, held: contextlib.ExitStack) -> None:
        self._player, self._sound, self._held = player, sound, held

    def create_track(self, name: str) -> rtc.LocalAudioTrack:
        return self._sound.create_track(name)

    async def open(self) -> None:
        await self._player.open()

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        await self._player.play(self._play)

    def change(self, spec: PublicationSpec) -> None:
        self._player.loop = spec.file.loop
        self._sound.process(spec.audio)

    async def _play(self, chunk: Chunk) -> None:
        await self._sound.play(chunk.data)

    async def aclose(self) -> None:
        self._held.close()
        await self._player.aclose()
        await self._sound.aclose()


def create_feeder(
    spec: PublicationSpec, media_dir: Path | None, url_hosts: list[str], timelines: Timelines, far_end: FarEnd
) -> Feeder:
    """The feeder of a spec for audio or video. What is wrong with a file shows when it is opened."""
    video = spec.video
    match spec.WhichOneof("input"):
        case "test_pattern":
            return PatternFeeder(video.width, video.height, video.frames_per_second)
        case "tone":
            return ToneFeeder(spec.tone, spec.audio, far_end)
        case _:
            resolve = partial(mediafile.resolve, spec.file.uri, media_dir, url_hosts)
            return _file_feeder(spec, resolve, timelines, far_end)


def _file_feeder(
    spec: PublicationSpec, resolve: Callable[[], mediafile.ResolvedMedia], timelines: Timelines, far_end: FarEnd
) -> Feeder:
    held = contextlib.ExitStack()
    offset_s = seconds_of(spec.file.start_offset)
    timeline = held.enter_context(timelines.hold(spec.file.uri, offset_s))
    if track_type(spec) == TrackType.TRACK_TYPE_AUDIO:
        # Its pace is the file's.
        sound = Sound(spec.audio, far_end, queue_ms=0)
        hear = Player(
            lambda: AudioDecoder(resolve(), sound.channels), timeline, spec.file.loop, _AUDIO_LEAD_S, offset_s
        )
        return FileAudioFeeder(hear, sound, held)
    size = (spec.video.width, spec.video.height, spec.video.frames_per_second)
    player = Player(lambda: VideoDecoder(resolve(), *size), timeline, spec.file.loop, 0.0, offset_s)
    return FileVideoFeeder(player, *size, held)
