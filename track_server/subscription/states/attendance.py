"""Companions in the rooms where somebody is interested: who has one, and that it reports."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from track_server.control.companion import Companion
from track_server.lifetime import Closing, Tasks
from track_server.livekit.datachannel import OnMessage
from track_server.rooms.inbox import Inbox
from track_server.rooms.room import LiveRoom
from track_server.subscription.states.attended import Attended
from track_server.subscription.states.message import Reader
from track_server.subscription.states.states import SubscriberStates

OpenInbox: TypeAlias = Callable[[str, OnMessage], Inbox]
"""Makes a room's inbox, not entered yet."""

# Clients that are asked at the same time, over all rooms.
_ASKED_AT_ONCE: Final = 64


class Attendance(Closing):
    """Follows rooms, `async with`: learns which connections have a companion, and has those report to an inbox that the
    room gets with the first of them. What they report goes to ``states``. Its methods never wait.
    """

    def __init__(self, companion: Companion, states: SubscriberStates, open_inbox: OpenInbox) -> None:
        self._companion = companion
        self._states = states
        self._open_inbox = open_inbox
        self._reader = Reader()
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._rooms: dict[str, tuple[Attended, asyncio.Task[None]]] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Follows no more. May be called twice."""
        await self._tasks.aclose()

    def follow(self, live: LiveRoom) -> None:
        """From now on until ``unfollow``, or the room is closed. Once more for the same room changes nothing."""
        known = self._rooms.get(live.name)
        if known is not None and known[0].live is live:
            return
        if known is not None:
            known[1].cancel()
        attended = Attended(live, self._companion, self._states, self._reader, self._asking)
        task = self._tasks.begin(self._attend(attended), name=f"attend {live.name}")
        self._rooms[live.name] = attended, task

    def unfollow(self, room: str, *, dismiss: bool) -> None:
        """What its companions told is forgotten. ``dismiss``: they are told to report no more, since no other server
        will have them report."""
        known = self._rooms.pop(room, None)
        if known is not None:
            known[1].cancel()
            self._states.unattended(room)
            if dismiss and not known[0].live.closed:
                self._tasks.spawn(known[0].dismiss(), name=f"dismiss companions of {room}")

    def look(self, room: str, identity: str) -> None:
        """That participant's client turned out to have a companion, or none: asks it anew."""
        known = self._rooms.get(room)
        if known is not None:
            known[0].look(identity)

    async def _attend(self, attended: Attended) -> None:
        room = attended.live.name
        async with self._open_inbox(room, attended.take) as inbox:
            try:
                await attended.run(inbox)
            finally:
                known = self._rooms.get(room)
                if known is not None and known[0] is attended:
                    del self._rooms[room]
