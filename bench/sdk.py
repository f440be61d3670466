"""The peer: a process with LiveKit's official SDK, as publisher, as observer, and as holder of idle rooms."""

import asyncio
import time
from typing import Any, Final

import uvloop
from livekit import rtc

from bench.processes import obey

_WIDTH, _HEIGHT = 1280, 720
_RATE: Final = 48_000
_BITRATE_BPS: Final = 1_900_000
# The quickest way that the SDK has to join, and the one that hosted sessions take.
_OPTIONS: Final = rtc.RoomOptions(auto_subscribe=False, single_peer_connection=False)


class Sdk:
    """The rooms that this process is in."""

    def __init__(self) -> None:
        self._rooms: list[rtc.Room] = []
        self._seen: list[tuple[str, bool, float]] = []
        self._sources: list[rtc.AudioSource | rtc.VideoSource] = []

    async def populate(self, url: str, tokens: list[str]) -> list[str]:
        """Joins once a token, and publishes a microphone and a camera each, both silent; their SIDs."""
        sids: list[str] = []
        for token in tokens:
            room = await self._join(url, token)
            audio = rtc.AudioSource(_RATE, 1)
            video = rtc.VideoSource(_WIDTH, _HEIGHT)
            self._sources += [audio, video]
            microphone = rtc.LocalAudioTrack.create_audio_track("microphone", audio)
            camera = rtc.LocalVideoTrack.create_video_track("camera", video)
            # Unfed, a video source sends black frames.
            camera.mute()
            for track, source in (
                (microphone, rtc.TrackSource.SOURCE_MICROPHONE),
                (camera, rtc.TrackSource.SOURCE_CAMERA),
            ):
                options = rtc.TrackPublishOptions(source=source)
                sids.append((await room.local_participant.publish_track(track, options)).sid)
        return sids

    async def observe(self, url: str, token: str) -> None:
        """Joins, and notes when tracks of others are muted and unmuted."""
        room = await self._join(url, token)
        room.on("track_muted", lambda _, publication: self._note(publication.sid, True))
        room.on("track_unmuted", lambda _, publication: self._note(publication.sid, False))

    async def seen(self) -> list[tuple[str, bool, float]]:
        """SID, whether muted, and when (monotonic seconds of this machine), since the last call."""
        seen, self._seen = self._seen, []
        return seen

    async def publish(self, url: str, token: str, observer_token: str) -> list[float]:
        """Joins and publishes a 720p30 simulcast camera, and leaves again.

        Seconds until `publish_track` had returned, and until another participant, who was there before, saw the track:
        LiveKit announces it with its first packet.
        """
        observer = await self._join(url, observer_token)
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        observer.on(
            "track_published",
            lambda *_: seen.done() or asyncio.get_running_loop().call_soon(seen.set_result, time.perf_counter()),
        )
        begun = time.perf_counter()
        room = rtc.Room()
        await room.connect(url, token, _OPTIONS)
        source = rtc.VideoSource(_WIDTH, _HEIGHT)
        feeding = asyncio.create_task(_feed(source))
        track = rtc.LocalVideoTrack.create_video_track("camera", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=True)
        options.video_encoding.max_bitrate = _BITRATE_BPS
        options.video_encoding.max_framerate = 30
        await room.local_participant.publish_track(track, options)
        returned = time.perf_counter()
        async with asyncio.timeout(10):
            took = [returned - begun, await seen - begun]
        feeding.cancel()
        await asyncio.wait([feeding])
        await room.disconnect()
        await source.aclose()
        await self.leave()
        return took

    async def hold(self, url: str, tokens: list[str]) -> None:
        """Joins once a token, with the SDK's own defaults, and stays."""
        for token in tokens:
            await self._join(url, token, rtc.RoomOptions())

    async def leave(self) -> None:
        """Leaves all rooms."""
        rooms, self._rooms = self._rooms, []
        await asyncio.gather(*(room.disconnect() for room in rooms))

    async def _join(self, url: str, token: str, options: rtc.RoomOptions = _OPTIONS) -> rtc.Room:
        room = rtc.Room()
        await room.connect(url, token, options)
        self._rooms.append(room)
        return room

    def _note(self, sid: str, muted: bool) -> None:
        self._seen.append((sid, muted, time.monotonic()))

    def commands(self) -> dict[str, Any]:
        """What the parent may ask for."""
        return {
            "populate": self.populate,
            "observe": self.observe,
            "seen": self.seen,
            "publish": self.publish,
            "hold": self.hold,
            "leave": self.leave,
        }


async def _feed(source: rtc.VideoSource) -> None:
    """Grey pictures, 30 a second, as a camera would."""
    picture = rtc.VideoFrame(_WIDTH, _HEIGHT, rtc.VideoBufferType.I420, bytes([128]) * (_WIDTH * _HEIGHT * 3 // 2))
    while True:
        source.capture_frame(picture)
        await asyncio.sleep(1 / 30)


async def _main() -> None:
    sdk = Sdk()
    try:
        await obey(sdk.commands())
    finally:
        await sdk.leave()


if __name__ == "__main__":
    uvloop.run(_main())
