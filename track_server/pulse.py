"""What wakes all who wait for something to change."""

import asyncio
from collections.abc import Callable


class Pulse:
    """At each beat all who wait are woken, and look again. Whoever begins to wait afterwards waits for the next one."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Something may have changed."""
        beat, self._next = self._next, asyncio.Event()
        beat.set()

    async def wait(self) -> None:
        """Returns at the next beat."""
        await self._next.wait()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks at each beat. Says whether it holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._next.wait()
        except TimeoutError:
            return condition()
        return True
