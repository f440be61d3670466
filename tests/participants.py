"""Independent participants: LiveKit's own SDK, against which the service is held."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from livekit import api, rtc

from tests.livekit_process import LiveKitProcess

ANNOUNCED_S = 30.0


class Joined(rtc.Room):
    """A room that somebody has joined; ``server`` is the one that it is on."""

    def __init__(self, server: LiveKitProcess) -> None:
        super().__init__()
        self.server = server

    async def announced(self, sid: str) -> None:
        """Waits until LiveKit says that the participant publishes the track: with its first packet."""
        server, identity = self.server, self.local_participant.identity
        request = api.RoomParticipantIdentity(room=self.name, identity=identity)
        async with (
            asyncio.timeout(ANNOUNCED_S),
            api.LiveKitAPI(server.http_url, server.api_key, server.api_secret) as client,
        ):
            while sid not in {track.sid for track in (await client.room.get_participant(request)).tracks}:
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def participant(
    server: LiveKitProcess, room: str, identity: str, *, auto_subscribe: bool = True, **grants: Any
) -> AsyncIterator[Joined]:
    """Joins the room with those grants on top of `roomJoin`; leaves at the end."""
    token = api.AccessToken(server.api_key, server.api_secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=room, **grants))
    joined = Joined(server)
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
    """Publishes a grey camera that sends ten frames a second, and waits for LiveKit to say so where it can be asked."""
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
        publication = await joined.local_participant.publish_track(track, options)
        if isinstance(joined, Joined):
            await joined.announced(publication.sid)
        yield publication
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
