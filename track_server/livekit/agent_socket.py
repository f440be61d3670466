"""The WebSocket between LiveKit and an agent worker: `/agent`, protobuf frames of `livekit_agent.proto`."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from livekit.api import AccessToken, VideoGrants
from livekit.protocol import agent

from track_server import errors

_PROTOCOL: Final = 1
_HANDSHAKE_S: Final = 5.0
_TOKEN_LIFE: Final = datetime.timedelta(minutes=5)


class AgentSocket:
    """An open connection. Every method raises LiveKitUnavailable once it is broken."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def register(self, registration: agent.RegisterWorkerRequest) -> agent.RegisterWorkerResponse:
        """Register the worker; the first thing to do. Waits up to 5 s for each message."""
        await self.send(agent.WorkerMessage(register=registration))
        while True:
            message = await self.receive(_HANDSHAKE_S)
            if message.WhichOneof("message") == "register":
                return message.register

    async def send(self, message: agent.WorkerMessage) -> None:
        """Send one message."""
        try:
            await self._socket.send_bytes(message.SerializeToString())
        except (aiohttp.ClientError, OSError) as error:
            raise errors.LiveKitUnavailable("the connection to LiveKit broke") from error

    async def receive(self, within_s: float) -> agent.ServerMessage:
        """The next message; raises LiveKitUnavailable where none comes within `within_s` seconds."""
        try:
            frame = await self._socket.receive(timeout=within_s)
        except TimeoutError as error:
            raise errors.LiveKitUnavailable("LiveKit fell silent") from error
        if frame.type is not aiohttp.WSMsgType.BINARY:
            raise errors.LiveKitUnavailable("LiveKit closed the worker's connection")
        return agent.ServerMessage.FromString(frame.data)


@contextlib.asynccontextmanager
async def connect(url: str, api_key: str, api_secret: str) -> AsyncIterator[AgentSocket]:
    """A connection to the LiveKit server at `url` (ws, wss, http or https), closed with the context.

    Raises LiveKitCredentials where it refuses the key, LiveKitUnavailable where it does not answer within 5 s.
    """
    token = AccessToken(api_key, api_secret).with_grants(VideoGrants(agent=True)).with_ttl(_TOKEN_LIFE)
    headers = {"Authorization": f"Bearer {token.to_jwt()}"}
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                socket = await session.ws_connect(_endpoint(url), headers=headers)
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403):
                raise errors.LiveKitCredentials("LiveKit refuses this service's API key") from error
            raise errors.LiveKitUnavailable("LiveKit does not answer as LiveKit does") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise errors.LiveKitUnavailable("LiveKit cannot be reached") from error
        try:
            yield AgentSocket(socket)
        finally:
            await socket.close()


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/agent", f"protocol={_PROTOCOL}", ""))
