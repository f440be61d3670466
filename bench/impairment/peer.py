"""A participant in a process of its own: LiveKit's Python SDK with the companion. It publishes, or receives."""

import asyncio
import base64
import contextlib
import time
from typing import Any, Final

import numpy as np
import uvloop
from livekit import rtc

import track_control
from bench.impairment.film import Film
from bench.processes import obey

_RATE: Final = 48_000
_PIECE: Final = _RATE // 100
_BITS_A_PIXEL: Final = 0.12


class Peer:
    """One participant. To be made on the loop."""

    def __init__(self) -> None:
        self._room = rtc.Room()
        self._companion: track_control.TrackControl | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tracks: dict[str, rtc.LocalTrack] = {}
        self._moving = asyncio.Event()
        self._moving.set()
        self._widths: list[tuple[float, int]] = []
        self._qualities: list[tuple[float, str, int]] = []

    async def join(self, url: str, token: str, public_key: str, receive: bool) -> None:
        """Joins with the companion attached; ``receive``: subscribes to everything, and decodes it."""
        self._room.on("track_subscribed", lambda track, *_: self._spawn(self._decode(track)))
        self._room.on("connection_quality_changed", self._quality_changed)
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=receive))
        self._companion = track_control.attach_track_control(self._room, public_key=base64.b64decode(public_key))

    async def sound(self, silent: bool) -> str:
        """Publishes a microphone with a tone, or one that hears nothing; its SID."""
        source = rtc.AudioSource(_RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=True, red=True)
        self._spawn(_play(source, 0 if silent else 8000))
        return await self._publish("sound", track, options)

    async def camera(self, width: int, height: int, fps: float, layers: bool, bitrate_bps: int = 0) -> str:
        """Publishes a camera with texture that moves, of at most that bit rate (0: by its size); its SID."""
        source = rtc.VideoSource(width, height)
        track = rtc.LocalVideoTrack.create_video_track("camera", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=layers)
        options.video_encoding.max_bitrate = bitrate_bps or int(width * height * fps * _BITS_A_PIXEL)
        options.video_encoding.max_framerate = fps
        self._spawn(_film(source, width, height, fps))
        return await self._publish("video", track, options)

    async def screen(self, width: int, height: int) -> str:
        """Publishes a screen that does not move, with a picture a second until `hold`; its SID."""
        source = rtc.VideoSource(width, height, is_screencast=True)
        track = rtc.LocalVideoTrack.create_video_track("screen", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_SCREENSHARE, simulcast=False)
        options.video_encoding.max_bitrate = 500_000
        options.video_encoding.max_framerate = 5
        self._spawn(_still(source, width, height, self._moving))
        return await self._publish("video", track, options)

    async def hold(self, still: bool) -> None:
        """No picture at all comes from the screen any more, or again one a second."""
        self._moving.clear() if still else self._moving.set()

    async def mute(self, muted: bool) -> None:
        """All that it publishes, as a user does."""
        for track in self._tracks.values():
            track.mute() if muted else track.unmute()

    async def layer(self, quality: int) -> None:
        """Asks for a layer of each video that it receives: 0 low, 1 medium, 2 high."""
        for publication in self._received():
            if publication.kind == rtc.TrackKind.KIND_VIDEO:
                publication.set_video_quality(quality)  # type: ignore[arg-type]  # a value of the enum

    async def receives(self) -> list[str]:
        """Kinds of the tracks that it is subscribed to."""
        return sorted("video" if isinstance(one.track, rtc.RemoteVideoTrack) else "sound" for one in self._received())

    async def widths(self) -> list[tuple[float, int]]:
        """When the decoded picture had another width than before (seconds UTC), and which, since the last call."""
        widths, self._widths = self._widths, self._widths[-1:]
        return widths

    async def qualities(self) -> list[tuple[float, str, int]]:
        """LiveKit's level as it told this participant (0 poor, 1 good, 2 excellent, 3 lost): when, whose, which."""
        return self._qualities

    async def heard(self) -> dict[str, float]:
        """Sound so far, in seconds: ``total`` that was played, and ``concealed`` of it, silence left out."""
        for publication in self._received():
            if isinstance(publication.track, rtc.RemoteAudioTrack):
                for entry in await publication.track.get_stats():
                    if entry.WhichOneof("stats") == "inbound_rtp":
                        told = entry.inbound_rtp.inbound
                        made_up = told.concealed_samples - told.silent_concealed_samples
                        return {"total": told.total_samples_received / _RATE, "concealed": made_up / _RATE}
        return {}

    async def reconnect(self) -> None:
        """Connects anew, all of it."""
        await self._room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)

    async def leave(self) -> None:
        """Leaves the room."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._companion is not None:
            await self._companion.aclose()
        await self._room.disconnect()

    def commands(self) -> dict[str, Any]:
        """What the parent may ask for."""
        return {
            name: getattr(self, name)
            for name in (
                "join", "sound", "camera", "screen", "mute", "layer", "receives", "widths", "qualities", "heard",
                "reconnect", "hold", "leave",
            )
        }  # fmt: skip

    def _received(self) -> list[rtc.RemoteTrackPublication]:
        return [
            publication
            for participant in self._room.remote_participants.values()
            for publication in participant.track_publications.values()
            if publication.track is not None
        ]

    async def _publish(self, kind: str, track: rtc.LocalTrack, options: rtc.TrackPublishOptions) -> str:
        self._tracks[kind] = track
        return (await self._room.local_participant.publish_track(track, options)).sid

    def _quality_changed(self, participant: rtc.Participant, quality: int) -> None:
        self._qualities.append((time.time(), participant.identity, int(quality)))

    async def _decode(self, track: rtc.Track) -> None:
        if isinstance(track, rtc.RemoteVideoTrack):
            async for event in rtc.VideoStream(track):
                width = event.frame.width
                # After a subscription ended a few blank pictures of 8x8 come.
                if width > 8 and (not self._widths or self._widths[-1][1] != width):
                    self._widths.append((time.time(), width))
        else:
            async for _ in rtc.AudioStream(track):
                pass

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))


async def _play(source: rtc.AudioSource, loudness: int) -> None:
    at = 0
    while True:
        wave = np.sin(2 * np.pi * 440 * (at + np.arange(_PIECE)) / _RATE) * loudness
        at += _PIECE
        await source.capture_frame(rtc.AudioFrame(wave.astype("<i2").tobytes(), _RATE, 1, _PIECE))


async def _film(source: rtc.VideoSource, width: int, height: int, fps: float) -> None:
    film = Film(width, height)
    loop = asyncio.get_running_loop()
    number, next_s = 0, loop.time()
    while True:
        picture = film.picture(number).tobytes()
        source.capture_frame(rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, picture))
        number += 1
        next_s = max(next_s + 1 / fps, loop.time())
        await asyncio.sleep(next_s - loop.time())


async def _still(source: rtc.VideoSource, width: int, height: int, moving: asyncio.Event) -> None:
    picture = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, bytes([90]) * (width * height * 3 // 2))
    while await moving.wait():
        source.capture_frame(picture)
        await asyncio.sleep(1)


async def _main() -> None:
    peer = Peer()
    try:
        await obey(peer.commands())
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await peer.leave()


if __name__ == "__main__":
    uvloop.run(_main())
