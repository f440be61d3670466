"""The SDK's signalling, relayed over loopback, to say what the SDK does not.

LiveKit has a track encoded in two channels where its AddTrackRequest says so. The SDK (rtc 1.2.1) never says it,
whatever its source has (livekit/rust-sdks issue 1018). So sessions with stereo sound connect through this relay, which
does.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import structlog
from aiohttp import web
from google.protobuf.message import DecodeError
from livekit.protocol import models
from livekit.protocol.rtc import SignalRequest

from track_server.lifetime import Closing

log = structlog.get_logger(__name__)

_PASSED_ON: Final = ("authorization", "user-agent")
_HTTP: Final = {"ws": "http", "wss": "https"}


class SignalRelay(Closing):
    """Relays to LiveKit at ``url`` while the context lasts.

    ``stereo``: whether a track of that name has two channels.
    """

    def __init__(self, url: str, stereo: Callable[[str], bool]) -> None:
        parts = urlsplit(url)
        self._upstream = urlunsplit((_HTTP.get(parts.scheme, parts.scheme), parts.netloc, "", "", ""))
        self._path = parts.path.rstrip("/")
        self._stereo = stereo
        application = web.Application()
        application.router.add_route("GET", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        self._client: aiohttp.ClientSession | None = None
        self.url = ""
        """Where the SDK connects to."""

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}{self._path}"
        return self

    async def aclose(self) -> None:
        """Break what is relayed. May be called twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._client is None:
            raise web.HTTPServiceUnavailable
        url = f"{self._upstream}{request.raw_path}"
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        try:
            if request.headers.get("upgrade", "").lower() != "websocket":
                # With these the SDK asks why it was refused.
                async with self._client.get(url, headers=headers) as answer:
                    return web.Response(status=answer.status, body=await answer.read())
            async with self._client.ws_connect(url, headers=headers, max_msg_size=0) as upstream:
                return await self._relay(request, upstream)
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        except aiohttp.ClientError as error:
            log.info("signalling_not_relayed", cause=repr(error))
            return web.Response(status=502)

    async def _relay(self, request: web.Request, upstream: aiohttp.ClientWebSocketResponse) -> web.StreamResponse:
        downstream = web.WebSocketResponse(max_msg_size=0)
        await downstream.prepare(request)
        # Whichever side ends takes the other one along.
        ways = {
            asyncio.create_task(self._up(downstream, upstream), name="signalling-up"),
            asyncio.create_task(_down(upstream, downstream), name="signalling-down"),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await downstream.close()
        return downstream

    async def _up(self, downstream: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
        async for message in downstream:
            if message.type is aiohttp.WSMsgType.BINARY:
                await upstream.send_bytes(self._completed(message.data))
            elif message.type is aiohttp.WSMsgType.TEXT:
                await upstream.send_str(message.data)

    def _completed(self, data: bytes) -> bytes:
        """What is sent, with the channels of a track that is added."""
        try:
            request = SignalRequest.FromString(data)
        except DecodeError:
            return data
        if not request.HasField("add_track") or not self._stereo(request.add_track.name):
            return data
        request.add_track.stereo = True
        request.add_track.audio_features.append(models.TF_STEREO)
        return request.SerializeToString()


async def _down(upstream: aiohttp.ClientWebSocketResponse, downstream: web.WebSocketResponse) -> None:
    async for message in upstream:
        if message.type is aiohttp.WSMsgType.BINARY:
            await downstream.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await downstream.send_str(message.data)
