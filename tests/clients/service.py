"""The service's side of a conversation with a companion."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from google.protobuf import json_format
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from track.control.v1 import control_pb2 as control
from track_server.control.commands import Action, Target, command, payload
from track_server.control.signing import ControlKey
from track_server.livekit.api import LiveKitApi
from track_server.livekit.rpc import CONNECTION_TIMEOUT, RpcFailed, perform_rpc
from track_server.livekit.tokens import TokenMint

METHOD = "track.control.v1"
KEY = ControlKey(bytes(range(32)))
"""A service's key, for tests that speak in its place."""

_SENT_S = 30.0


def target_of(joined: rtc.Room) -> Target:
    """Its connection."""
    return Target(joined.name, joined.local_participant.identity, joined.local_participant.sid)


class Service:
    """Somebody with LiveKit's API key who calls companions, and what they answer."""

    def __init__(self, api: LiveKitApi) -> None:
        self._api = api

    async def send(self, target: Target, text: str) -> control.Reply:
        """A payload. Every name of the answer must be one of the contract.

        LiveKit gives a client 2 s to say that it took a call, which one on a busy machine may miss: then the same is
        sent again, as the service does. A companion does a command once however often it comes.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _SENT_S
        while True:
            try:
                answer = await perform_rpc(self._api, target.room, target.identity, METHOD, text)
            except RpcFailed as error:
                if error.number != CONNECTION_TIMEOUT or loop.time() > until:
                    raise
            else:
                return json_format.Parse(answer, control.Reply())

    async def ask(self, joined: rtc.Room, action: Action, key: ControlKey = KEY) -> control.Reply:
        """A new command, signed."""
        target = target_of(joined)
        return await self.send(target, payload(command(target, action, time.time_ns()), key))

    async def done(self, joined: rtc.Room, action: Action) -> control.Reply:
        """A new command, followed until it is not ACCEPTED any more."""
        return await self.finished(joined, await self.ask(joined, action))

    async def finished(self, joined: rtc.Room, reply: control.Reply) -> control.Reply:
        """The last reply to a command, of which ``reply`` was the first."""
        async with asyncio.timeout(45):
            while reply.status == control.COMMAND_STATUS_ACCEPTED:
                await asyncio.sleep(0.02)
                reply = await self.ask(joined, control.GetResult(command_id=reply.command_id))
        return reply


@contextlib.asynccontextmanager
async def service(livekit: LiveKitProcess) -> AsyncIterator[Service]:
    """It."""
    async with LiveKitApi(livekit.http_url, TokenMint(livekit.api_key, livekit.api_secret)) as api:
        yield Service(api)
