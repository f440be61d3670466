"""Independent participants: LiveKit's own SDK, against which the service is held."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from livekit import api, rtc

from tests.livekit_process import LiveKitProcess


@contextlib.asynccontextmanager
async def participant(
    server: LiveKitProcess, room: str, identity: str, *, auto_subscribe: bool = True, **grants: Any
) -> AsyncIterator[rtc.Room]:
    """Joins the room with those grants on top of `roomJoin`; leaves at the end."""
    token = api.AccessToken(server.api_key, server.api_secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=room, **grants))
    joined = rtc.Room()
    await joined.connect(server.url, token.to_jwt(), rtc.RoomOptions(auto_subscribe=auto_subscribe))
    try:
        yield joined
    finally:
        await joined.disconnect()


async def microphone(joined: rtc.Room, name: str = "mic") -> rtc.LocalTrackPublication:
    """Publishes a silent microphone."""
    track = rtc.LocalAudioTrack.create_audio_track(name, rtc.AudioSource(48000, 1))
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    return await joined.local_participant.publish_track(track, options)


@contextlib.asynccontextmanager
async def camera(
    joined: rtc.Room, name: str = "cam", width: int = 320, height: int = 180
) -> AsyncIterator[rtc.LocalTrackPublication]:
    """Publishes a grey camera that sends ten frames a second."""
    source = rtc.VideoSource(width, height)
    track = rtc.LocalVideoTrack.create_video_track(name, source)
    frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, bytes([128]) * (width * height * 3 // 2))

    async def feed() -> None:
        while True:
            source.capture_frame(frame)
            await asyncio.sleep(0.1)

    feeding = asyncio.create_task(feed())
    try:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        yield await joined.local_participant.publish_track(track, options)
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
