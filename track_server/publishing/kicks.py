"""What has a publication looked at again: something happened in its room, or somebody says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from track_server.rooms.room import LiveRoom


class Kicks:
    """One that is given while nobody waits is kept."""

    def __init__(self) -> None:
        self._kick = asyncio.Event()

    def give(self) -> None:
        """Gives one."""
        self._kick.set()

    def clear(self) -> None:
        """Forgets what was given so far."""
        self._kick.clear()

    @contextlib.asynccontextmanager
    async def of(self, live: LiveRoom) -> AsyncIterator[None]:
        """Meanwhile, whatever happens in the room gives one."""
        pump = asyncio.create_task(self._pump(live), name="kicks of a room")
        try:
            yield
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def wait(self, timeout_s: float | None) -> None:
        """Returns with the next one, or after that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._kick.wait()

    async def until_done(self, task: "asyncio.Task[Any]", wanted: Callable[[], bool]) -> bool:
        """Whether ``task`` came to its end while ``wanted`` held, which is asked at each kick."""
        while not task.done() and wanted():
            kicked = asyncio.ensure_future(self._kick.wait())
            await asyncio.wait({task, kicked}, return_when=asyncio.FIRST_COMPLETED)
            kicked.cancel()
            self._kick.clear()
        self._kick.set()  # what came meanwhile is to be looked at
        return task.done()

    async def _pump(self, live: LiveRoom) -> None:
        while True:
            self._kick.set()
            await live.log.changed()
