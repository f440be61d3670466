"""The relay between SDK and LiveKit: it passes everything on, and adds what the SDK leaves out."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from livekit import api, rtc
from livekit.protocol import models
from livekit.protocol.rtc import SignalRequest

from tests.livekit_process import LiveKitProcess
from tests.participants import microphone
from track_server.media.signalling import SignalRelay


class Upstream:
    """A WebSocket server that keeps what it was sent and says it back."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.requests: list[web.Request] = []
        application = web.Application()
        application.router.add_get("/prefix/rtc", self._talk)
        self._runner = web.AppRunner(application)
        self.url = ""

    async def __aenter__(self) -> "Upstream":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}/prefix"
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._runner.cleanup()

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            self.received.append(message.data)
            await socket.send_bytes(message.data)
            if message.data == b"end":
                await socket.close()
        return socket


def add_track(name: str) -> bytes:
    return SignalRequest(add_track={"name": name, "type": models.AUDIO}).SerializeToString()


async def test_stereo_tracks_are_said_to_be_stereo_and_all_else_passes_as_it_is() -> None:
    async with Upstream() as upstream, SignalRelay(upstream.url, lambda name: name == "music") as relay:
        url = f"{relay.url}/rtc?auto_subscribe=0&sdk=python"
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer token"}) as session,
            session.ws_connect(url) as socket,
        ):
            sent = [add_track("speech"), b"\xff no message", b"", add_track("music"), b"end"]
            for data in sent:
                await socket.send_bytes(data)
            async with asyncio.timeout(45):
                heard = [message.data async for message in socket]
    assert upstream.requests[0].query_string == "auto_subscribe=0&sdk=python"
    assert upstream.requests[0].headers["Authorization"] == "Bearer token"
    assert heard == upstream.received
    assert [*heard[:3], heard[4]] == [*sent[:3], sent[4]]
    added = SignalRequest.FromString(heard[3]).add_track
    assert (added.name, added.stereo, list(added.audio_features)) == ("music", True, [models.TF_STEREO])


async def test_a_room_is_joined_through_it_and_left_with_it(livekit: LiveKitProcess, room_name: str) -> None:
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity("one")
    token.with_grants(api.VideoGrants(room_join=True, room=room_name))
    room = rtc.Room()
    async with SignalRelay(livekit.url, lambda _: True) as relay:
        await room.connect(relay.url, token.to_jwt(), rtc.RoomOptions(single_peer_connection=False))
        await microphone(room)
        await room.disconnect()
        await relay.aclose()


async def test_what_livekit_refuses_is_refused(livekit: LiveKitProcess) -> None:
    room = rtc.Room()
    async with SignalRelay(livekit.url, lambda _: False) as relay:
        with pytest.raises(rtc.ConnectError):
            await room.connect(relay.url, "no token", rtc.RoomOptions())


async def test_nobody_to_relay_to_is_told() -> None:
    async with SignalRelay("ws://127.0.0.1:1", lambda _: False) as relay, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await session.ws_connect(f"{relay.url}/rtc")
    assert raised.value.status == 502
