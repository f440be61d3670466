"""What subscribers' clients report."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.livekit.datachannel import OnMessage
from track_server.rooms.inbox import Inbox
from track_server.subscription.controller.client_layers import ClientLayers
from track_server.subscription.states.attendance import Attendance
from track_server.subscription.states.reporting import StateReporting
from track_server.subscription.states.states import SubscriberStates


@dataclass(frozen=True, slots=True)
class Reported:
    """The parts."""

    states: SubscriberStates
    attendance: Attendance
    reporting: StateReporting
    client_layers: ClientLayers


@contextlib.asynccontextmanager
async def reporting(ground: Foundation, authority: Authority) -> AsyncIterator[Reported]:
    """States of subscribers for the span of the block, and what their companions are told."""
    rooms, settings, tokens = ground.rooms, ground.settings, ground.tokens

    def open_inbox(room: str, on_message: OnMessage) -> Inbox:
        timeout_s = settings.transport_timeout_seconds
        return Inbox(room, settings.livekit_ws_url, tokens, on_message, transport_timeout_s=timeout_s)

    async with contextlib.AsyncExitStack() as stack:
        states = await stack.enter_async_context(SubscriberStates(rooms, ground.standing))
        rooms.listen(states.happened)
        ground.standing.miss(states.gone)
        attendance = await stack.enter_async_context(Attendance(ground.companion, states, open_inbox))
        answers = StateReporting(rooms, ground.reader, authority.access, states)
        yield Reported(states, attendance, answers, ClientLayers(ground.companion))
