"""A watcher's connection, participants beside it, and what LiveKit shows of both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import pytest
from livekit import api
from livekit import rtc as sdk
from livekit.protocol import rtc

from tests.livekit_process import LiveKitProcess
from track_server.livekit.signal import SignalClosed, SignalConnection

Found = TypeVar("Found")


def watcher_token(server: LiveKitProcess, room: str, identity: str = "watcher") -> str:
    grants = api.VideoGrants(
        room_join=True, room=room, hidden=True, can_subscribe=True, can_publish=False, can_publish_data=False
    )
    token = api.AccessToken(server.api_key, server.api_secret).with_identity(identity)
    return token.with_kind("agent").with_grants(grants).to_jwt()


def watch(server: LiveKitProcess, room: str, **options: Any) -> SignalConnection:
    return SignalConnection(server.url, watcher_token(server, room), **options)


@asynccontextmanager
async def participant(server: LiveKitProcess, room: str, identity: str) -> AsyncIterator[sdk.Room]:
    """A participant on LiveKit's own SDK."""
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken(server.api_key, server.api_secret).with_identity(identity).with_grants(grants)
    member = sdk.Room()
    await member.connect(server.url, token.to_jwt(), sdk.RoomOptions(auto_subscribe=False))
    try:
        yield member
    finally:
        await member.disconnect()


@asynccontextmanager
async def publisher(server: LiveKitProcess, room: str, identity: str) -> AsyncIterator[str]:
    """A participant that publishes a camera (black, which the SDK makes by itself); yields the track's SID."""
    source = sdk.VideoSource(320, 180)
    try:
        async with participant(server, room, identity) as member:
            track = sdk.LocalVideoTrack.create_video_track("camera", source)
            options = sdk.TrackPublishOptions(source=sdk.TrackSource.SOURCE_CAMERA, simulcast=False)
            yield (await member.local_participant.publish_track(track, options)).sid
    finally:
        await source.aclose()


def livekit_api(server: LiveKitProcess) -> api.LiveKitAPI:
    return api.LiveKitAPI(server.http_url, server.api_key, server.api_secret)


async def until(
    connection: SignalConnection, found: Callable[[rtc.SignalResponse], Found | None], within_s: float = 45.0
) -> Found:
    """Read updates until ``found`` makes something of one."""
    async with asyncio.timeout(within_s):
        async for response in connection:
            if (result := found(response)) is not None:
                return result
    raise AssertionError("updates ended without SignalClosed")


async def ended(connection: SignalConnection, within_s: float = 45.0) -> SignalClosed:
    """Read updates until the session ends."""
    with pytest.raises(SignalClosed) as closed:
        await until(connection, lambda _: None, within_s)
    return closed.value


async def subscribe_disabled(connection: SignalConnection, sid: str) -> None:
    """What a watcher does for quality: subscribe, and want no media."""
    settings = rtc.UpdateTrackSettings(track_sids=[sid], disabled=True)
    await connection.send(rtc.SignalRequest(track_setting=settings))
    await connection.send(rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True)))


async def unsubscribe(connection: SignalConnection, sid: str) -> None:
    await connection.send(rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=False)))


async def down_tracks(server: LiveKitProcess, room: str, sid: str) -> list[dict[str, Any]]:
    """LiveKit's own list of who receives a track."""
    found: list[dict[str, Any]] = []
    base = server.http_url if server.version == "1.11.0" else server.debug_url
    async with aiohttp.ClientSession() as http, http.get(f"{base}/debug/rooms") as answer:
        rooms = await answer.json(content_type=None)
    for each in rooms:
        if each["Name"] == room:
            for member in each["Participants"].values():
                tracks = member["UpTrackManager"].get("PublishedTracks") or {}
                found += tracks.get(sid, {}).get("DownTracks") or []
    return found


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = 45.0) -> None:
    async with asyncio.timeout(within_s):
        while not await check():
            await asyncio.sleep(0.05)
