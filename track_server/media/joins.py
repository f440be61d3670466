"""Rooms are joined and left as the SDK needs it (rtc 1.2.1), or it takes its process along, or its hearing."""

import asyncio
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc.room import ConnectError

from track_server.lifetime import Tasks

log = structlog.get_logger(__name__)

_LEAVE_S: Final = 3.0


class Joins:
    """All joins of this process. Its owner awaits ``settle`` before it ends."""

    def __init__(self) -> None:
        self._tasks = Tasks()
        self._first: rtc.Room | None = None
        """Kept, though it may have been left long ago. WebRTC ends its media engine with the last peer connection and
        begins it again with the next, but without what the SDK fetches received sound with, where a room that is being
        joined then keeps the engine's owner alive: the process would hear nothing any more, while all else goes well.
        Closed peer connections of a room that is kept hold the engine."""

    async def join(self, room: rtc.Room, url: str, token: str, options: rtc.RoomOptions) -> None:
        """Join. Raises ConnectError.

        Cancelled, it has the room left once it is joined: the SDK goes on, tries again for more than a minute, and ends
        the process where nobody takes what it brings.
        """
        joining = self._tasks.begin(self._connect(room, url, token, options), name="room-join")
        try:
            error = await asyncio.shield(joining)
        except asyncio.CancelledError:
            self._tasks.spawn(self._undo(room, joining), name="room-join-undone")
            raise
        if error is not None:
            raise error

    async def leave(self, room: rtc.Room) -> None:
        """Leave it, where one is in it; it takes 3 s at most, though the SDK may go on."""
        if room.isconnected():
            leaving = self._tasks.begin(room.disconnect(), name="room-leave")
            await asyncio.wait([leaving], timeout=_LEAVE_S)

    async def settle(self, timeout_s: float) -> None:
        """Wait for what is under way, so long at most."""
        await self._tasks.settle(timeout_s)

    async def _connect(self, room: rtc.Room, url: str, token: str, options: rtc.RoomOptions) -> ConnectError | None:
        try:
            await room.connect(url, token, options)
        except ConnectError as error:
            return error
        self._first = self._first or room
        return None

    async def _undo(self, room: rtc.Room, joining: "asyncio.Task[ConnectError | None]") -> None:
        await asyncio.wait([joining])
        if room.isconnected():
            log.info("room_joined_in_vain", room=room.name)
            await self.leave(room)
