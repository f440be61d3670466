"""A participant whose app is a page in Chromium, and the service's side of a conversation with its companion."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from livekit import api

from tests.clients.browser.chromium import Chromium, Page
from tests.clients.service import KEY, Service
from tests.livekit_process import LiveKitProcess
from track.control.v1 import control_pb2 as control
from track_server.control.commands import Action, Target, command, payload
from track_server.errors import TrackError

DEADLINE_S = 45.0


class App:
    """One page in one room."""

    def __init__(self, page: Page, livekit: LiveKitProcess, sender: Service, room: str, identity: str) -> None:
        self.page = page
        self._livekit = livekit
        self._sender = sender
        self._room = room
        self._identity = identity
        self.target = Target(room, identity, "")

    async def join(self, *, canPublishData: bool = True, **options: Any) -> None:  # noqa: N803
        """Joins; ``options`` are livekit-client's RoomOptions."""
        token = api.AccessToken(self._livekit.api_key, self._livekit.api_secret).with_identity(self._identity)
        grants = api.VideoGrants(room_join=True, room=self._room, can_publish_data=canPublishData)
        sid = await self.page.call("join", self._livekit.url, token.with_grants(grants).to_jwt(), options)
        self.target = Target(self._room, self._identity, sid)

    async def renew(self) -> None:
        """Speaks to the connection that it has now."""
        self.target = Target(self._room, self._identity, await self.page.call("sid"))

    async def subscribed_by_server(self, sid: str) -> None:
        """LiveKit subscribes it to a track, through its API."""
        key, secret = self._livekit.api_key, self._livekit.api_secret
        async with api.LiveKitAPI(self._livekit.http_url, key, secret) as server:
            await server.room.update_subscriptions(
                api.UpdateSubscriptionsRequest(
                    room=self._room, identity=self._identity, track_sids=[sid], subscribe=True
                )
            )

    async def attach(self, public_key: bytes | None = KEY.public.public_key, **options: Any) -> None:
        """Attaches the companion."""
        key = {"publicKey": base64.b64encode(public_key).decode()} if public_key is not None else {}
        await self.page.call("attach", {**key, **options})

    async def ask(self, action: Action) -> control.Reply:
        """A new command, signed."""
        return await self._sender.send(self.target, payload(command(self.target, action, time.time_ns()), KEY))

    async def answering(self) -> control.Reply:
        """The reply to a question, as soon as one comes: after a reconnect the way to the client takes a while."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(TrackError):
                    return await self.ask(control.GetCapabilities())
                await asyncio.sleep(0.1)

    async def do(self, action: Action) -> control.Reply:
        """A new command, followed until it is not ACCEPTED any more."""
        return await self.result(await self.ask(action))

    async def result(self, reply: control.Reply) -> control.Reply:
        """The last reply to a command."""
        async with asyncio.timeout(DEADLINE_S):
            while reply.status == control.COMMAND_STATUS_ACCEPTED:
                await asyncio.sleep(0.05)
                reply = await self.ask(control.GetResult(command_id=reply.command_id))
        return reply

    async def done(self, action: Action) -> control.Result:
        """The result of a command that must be DONE."""
        reply = await self.do(action)
        assert reply.status == control.COMMAND_STATUS_DONE, reply
        return reply.result

    async def until(self, name: str, *arguments: Any, holds: Any = bool) -> Any:
        """What a function of the page gives, as soon as ``holds`` holds of it."""
        found = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not holds(found := await self.page.call(name, *arguments)):
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise AssertionError(f"{name} still gives {found}") from error
        return found


@contextlib.asynccontextmanager
async def app(
    chromium: Chromium, livekit: LiveKitProcess, sender: Service, room: str, identity: str, **options: Any
) -> AsyncIterator[App]:
    """A page that has joined the room; it leaves at the end."""
    async with chromium.page() as page:
        made = App(page, livekit, sender, room, identity)
        await made.join(**options)
        try:
            yield made
        finally:
            await page.call("leave")
