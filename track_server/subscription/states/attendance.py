"""Companions in the rooms where somebody is interested: who has one, and that it reports."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from track.v1.quality_stats_pb2 import TrackStats
from track.v1.track_pb2 import Participant
from track_server.control.companion import Companion
from track_server.lifetime import Closing, Tasks
from track_server.livekit.datachannel import OnMessage
from track_server.rooms.inbox import Inbox
from track_server.rooms.room import LiveRoom
from track_server.subscription.states.attended import Attended, OnStats
from track_server.subscription.states.message import Reader
from track_server.subscription.states.states import SubscriberStates

OpenInbox: TypeAlias = Callable[[str, OnMessage], Inbox]
"""Makes a room's inbox, not entered yet."""

# Clients that are asked at the same time, over all rooms.
_ASKED_AT_ONCE: Final = 64


@dataclass(slots=True)
class _Room:
    """One room. ``owners``: who follows it, and whether for statistics."""

    attended: Attended
    task: asyncio.Task[None]
    owners: dict[object, bool]


class Attendance(Closing):
    """Follows rooms, `async with`: learns which connections have a companion, and has those report to an inbox that the
    room gets with the first of them. What they report goes to ``states``, what they measured to ``listen``'s. Its
    methods never wait.
    """

    def __init__(self, companion: Companion, states: SubscriberStates, open_inbox: OpenInbox) -> None:
        self._companion = companion
        self._states = states
        self._open_inbox = open_inbox
        self._reader = Reader()
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._listeners: list[OnStats] = []
        self._rooms: dict[str, _Room] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Follows no more. May be called twice."""
        await self._tasks.aclose()

    def listen(self, listener: OnStats) -> None:
        """``listener`` is told of what companions measured."""
        self._listeners.append(listener)

    def follow(self, owner: object, live: LiveRoom, *, stats: bool = False) -> None:
        """``owner`` (hashable) wants the room's companions to report, from now on until it unfollows, or the room is
        closed. ``stats``: with statistics. Once more for the same room changes nothing, but ``stats``."""
        known = self._rooms.get(live.name)
        if known is not None and known.attended.live is live:
            known.owners[owner] = stats
            known.attended.measure(any(known.owners.values()))
            return
        owners = {owner: stats}
        if known is not None:
            known.task.cancel()
            owners = {**known.owners, **owners}
        attended = Attended(
            live,
            self._companion,
            self._states,
            self._reader,
            self._asking,
            self._told,
            measuring=any(owners.values()),
        )
        task = self._tasks.begin(self._attend(attended), name=f"attend {live.name}")
        self._rooms[live.name] = _Room(attended, task, owners)

    def unfollow(self, owner: object, room: str, *, dismiss: bool = True) -> None:
        """``owner`` wants it no more. With the last one what its companions told is forgotten. ``dismiss``: they are
        told then to report no more, since no other server will have them report."""
        known = self._rooms.get(room)
        if known is None or known.owners.pop(owner, None) is None:
            return
        if known.owners:
            known.attended.measure(any(known.owners.values()))
            return
        del self._rooms[room]
        known.task.cancel()
        self._states.unattended(room)
        if dismiss and not known.attended.live.closed:
            self._tasks.spawn(known.attended.dismiss(), name=f"dismiss companions of {room}")

    def look(self, room: str, identity: str) -> None:
        """That participant's client turned out to have a companion, or none: asks it anew."""
        known = self._rooms.get(room)
        if known is not None:
            known.attended.look(identity)

    async def _attend(self, attended: Attended) -> None:
        room = attended.live.name
        async with self._open_inbox(room, attended.take) as inbox:
            try:
                await attended.run(inbox)
            finally:
                known = self._rooms.get(room)
                if known is not None and known.attended is attended:
                    del self._rooms[room]

    def _told(self, live: LiveRoom, participant: Participant, stats: Sequence[TrackStats]) -> None:
        for listener in self._listeners:
            listener(live, participant, stats)
