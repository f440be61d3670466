"""Several rooms' messages as one stream: each room's in order, the rooms by turns, one message of each held at most."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from track_server.lifetime import Closing, Tasks
from track_server.rooms.log import Message

# Rooms whose first snapshot waits to be taken: each may be large, and the reader slow.
_BEGINNING: Final = 8


@dataclass(frozen=True, slots=True)
class Ended:
    """A room's messages came to their end. ``error``: with which, if any."""

    error: Exception | None = None


Offer: TypeAlias = tuple[str, Message | Ended]


@dataclass(slots=True)
class _Waiting:
    offer: Offer
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class Merging(Closing):
    """Takes the streams that it is given, `async with`. For one reader."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._came = asyncio.Event()
        self._beginning = asyncio.Semaphore(_BEGINNING)
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Closes the streams. May be called twice."""
        await self._tasks.aclose()

    def add(self, room: str, stream: AsyncGenerator[Message], *, begins: bool) -> None:
        """Takes the room's messages too, and closes ``stream`` at its end. ``begins``: a snapshot comes first."""
        self._tasks.spawn(self._feed(room, stream, begins=begins), name=f"watch {room}")

    async def take(self, until: float | None = None) -> Offer | None:
        """The next message, or the end, of any room; None where none came until then, by the loop's clock."""
        while not self._waiting:
            self._came.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._came.wait()
            except TimeoutError:
                return None
        waiting = self._waiting.popleft()
        waiting.taken.set()
        return waiting.offer

    async def _feed(self, room: str, stream: AsyncGenerator[Message], *, begins: bool) -> None:
        try:
            async with contextlib.aclosing(stream):
                if begins:
                    async with self._beginning:
                        await self._offer(room, await anext(stream))
                async for message in stream:
                    await self._offer(room, message)
        except Exception as error:  # noqa: BLE001  the reader raises it
            await self._offer(room, Ended(error))
        else:
            await self._offer(room, Ended())

    async def _offer(self, room: str, what: Message | Ended) -> None:
        waiting = _Waiting((room, what))
        self._waiting.append(waiting)
        self._came.set()
        await waiting.taken.wait()
