"""How many events of a room wait for a receiver."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from track_server.errors import InvalidExpression
from track_server.rooms.cursor import Cursor
from track_server.rooms.history import CursorLost
from track_server.rooms.log import Message
from track_server.rooms.rooms import Rooms
from track_server.webhooks.messages import parts
from track_server.webhooks.subscription import Subscription

# Others have their turn after so many that were looked at.
_YIELD: Final = 200


class Backlog:
    """Counts what comes after the lane's position. What was counted once is not looked at again."""

    def __init__(self, rooms: Rooms, subscription: Subscription, room: str) -> None:
        self._rooms = rooms
        self._subscription = subscription
        self._room = room
        self._waiting = 0
        self._counted: Cursor | None = None
        """The newest that was counted; None: nothing after the lane's position was."""
        self._ended = False
        """Whether that was the end of the room."""
        self._counting = asyncio.Lock()

    def passed(self, sent: int, *, jumped: bool = False) -> None:
        """The lane has the next message behind it, of which so many were to be sent. ``jumped``: what was between, and
        may have been counted, is not sent any more."""
        if jumped or self._waiting == 0:
            # Else it has overtaken the counting.
            self._counted, self._waiting = None, 0
        else:
            self._waiting -= sent

    async def count(self, cursor: str, *, ended: bool) -> int:
        """Events that wait after the lane's position. Raises StoreError."""
        async with self._counting:
            if self._counted is None:
                start = self._rooms.seal.read(self._room, cursor) if cursor else None
                if start is None:
                    return 0
                self._counted, self._ended, self._waiting = start, ended, 0
            looked = 0
            async with contextlib.aclosing(self._after(self._counted)) as messages:
                async for message in messages:
                    if self._counted is None:
                        break
                    try:
                        found = parts(self._subscription, self._room, message, after_end=self._ended)
                    except InvalidExpression:
                        # Its filter takes so long that it must rest.
                        break
                    self._waiting += len(found)
                    self._counted, self._ended = message.position, message.last
                    looked += 1
                    if looked % _YIELD == 0:
                        await asyncio.sleep(0)
            return self._waiting

    async def _after(self, position: Cursor) -> AsyncGenerator[Message]:
        """What comes after that position now: from memory, and before that from the store."""
        history = self._rooms.history
        if history is not None and self._place(position) is None:
            try:
                async with contextlib.aclosing(history.after(self._room, position)) as kept:
                    async for message in kept:
                        yield message
                        position = message.position
                        if self._place(position) is not None:
                            break
            except CursorLost:
                return
        live, place = self._rooms.followed(self._room), self._place(position)
        while live is not None and place is not None and (found := live.log.at(place)) is not None:
            yield found
            place += 1

    def _place(self, position: Cursor) -> int | None:
        live = self._rooms.followed(self._room)
        return None if live is None else live.log.place_after(position)
