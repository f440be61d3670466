"""What companions report of a room, as this service hears it: its own parts in the test's process, no server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tests.clients.service import KEY
from tests.livekit_process import LiveKitProcess
from track.v1.subscription_pb2 import SubscriberState, TrackViewport
from track_server.control.commands import Target
from track_server.control.companion import Companion
from track_server.control.targets import target_of
from track_server.livekit.api import LiveKitApi
from track_server.livekit.datachannel import OnMessage
from track_server.livekit.tokens import TokenMint
from track_server.rooms.inbox import Inbox
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.subscription.controller.client_layers import ClientLayers
from track_server.subscription.states.attendance import Attendance
from track_server.subscription.states.attended import Attended
from track_server.subscription.states.states import SubscriberStates

DEADLINE_S = 45.0
OWNER = "tests"
"""Under which `hearing` follows its room."""


class Hearing:
    """One room that is attended; ``inboxes``: those that it was given."""

    def __init__(
        self, live: LiveRoom, states: SubscriberStates, attendance: Attendance, layers: ClientLayers, standing: Standing
    ) -> None:
        self.live = live
        self.states = states
        self.attendance = attendance
        self.layers = layers
        self.standing = standing
        self.inboxes: list[Inbox] = []
        self.companion: Companion
        self.rooms: Rooms
        self._told = asyncio.Event()
        states.listen(lambda _, __: self._told.set())

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for it; looks at every change of a state, and now and then."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not holds():
                    self._told.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await self._told.wait()
        except TimeoutError as error:
            known = {identity: self.of(identity) for identity in self.live.model.participants}
            raise AssertionError(f"what is known: {known}") from error

    def of(self, identity: str) -> SubscriberState:
        """What is known; empty where nothing is."""
        return self.states.of(self.live.name, identity) or SubscriberState()

    def attended(self) -> Attended:
        """The companions of the room."""
        return self.attendance._rooms[self.live.name].attended

    def target(self, identity: str) -> Target:
        """Its connection."""
        return target_of(self.live, identity)

    def viewport(self, identity: str, sid: str) -> TrackViewport:
        """How it shows that track; empty where that is not known."""
        return next((each for each in self.of(identity).viewports if each.track_sid == sid), TrackViewport())

    def subscribed(self, identity: str, sid: str) -> bool | None:
        """Whether it told last that it is subscribed to the video; None where it told nothing of it."""
        video = self.states.received(self.live.name, identity).get(sid)
        return None if video is None else video.subscribed

    def size(self, identity: str, sid: str) -> tuple[int, int]:
        """Of the pictures that it decodes; (0, 0) where it told none."""
        video = self.states.received(self.live.name, identity).get(sid)
        return (video.width, video.height) if video is not None else (0, 0)


@contextlib.asynccontextmanager
async def hearing(livekit: LiveKitProcess, room: str) -> AsyncIterator[Hearing]:
    """Attends the room for the span of the block."""
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    inboxes: list[Inbox] = []

    def open_inbox(name: str, on_message: OnMessage) -> Inbox:
        inbox = Inbox(name, livekit.url, tokens, on_message, transport_timeout_s=10.0)
        inboxes.append(inbox)
        return inbox

    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        api = await enter(LiveKitApi(livekit.http_url, tokens))
        rooms = await enter(Rooms(livekit.url, api, tokens, linger_s=0.0, max_events=1000, transport_timeout_s=10.0))
        standing = await enter(Standing(rooms, api))
        states = await enter(SubscriberStates(rooms, standing))
        rooms.listen(states.happened)
        companion = Companion(api, KEY)
        attendance = await enter(Attendance(companion, states, open_inbox))
        live = await enter(rooms.watch(room))
        attendance.follow(OWNER, live)
        heard = Hearing(live, states, attendance, ClientLayers(companion), standing)
        heard.inboxes, heard.companion, heard.rooms = inboxes, companion, rooms
        yield heard
        attendance.unfollow(OWNER, room)
