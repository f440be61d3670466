"""A peer in a process of its own: LiveKit's official SDK alone."""

import abc
import asyncio
from collections.abc import Callable
from typing import Any

from livekit import rtc

from bench.processes import obey


class SdkPeer(abc.ABC):
    """One participant, and what it does. To be made on the loop."""

    def __init__(self) -> None:
        self._room = rtc.Room()
        self._tasks: list[asyncio.Task[None]] = []
        self._taken = 0

    @abc.abstractmethod
    def commands(self) -> dict[str, Any]:
        """What the parent may ask for beside `taken` and `leave`."""

    async def taken(self) -> int:
        """What was done so far: frames that the SDK took, or that were made into what is wanted."""
        return self._taken

    async def leave(self) -> None:
        """Leaves the room."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._room.disconnect()


async def obeying(peer: Callable[[], SdkPeer]) -> None:
    """In a process of the bench: makes the peer, which does as the parent says until that is gone."""
    made = peer()
    try:
        await obey({**made.commands(), "taken": made.taken, "leave": made.leave})
    finally:
        await made.leave()
