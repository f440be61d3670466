"""Wakes its owner at points in time, by the clock on the wall."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Final

from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks

# The clock may be set meanwhile: it is looked at that often.
_LOOK_S: Final = 30.0


class Alarms(Closing):
    """One alarm a key. ``ring``: what is done, in a task of the alarms' own, when the time of that key has come.

    At the end those that have not rung are forgotten, and those that ring are cancelled.
    """

    def __init__(self, ring: Callable[[str], Coroutine[None, None, None]]) -> None:
        self._ring = ring
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Ends them. May be called twice."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._tasks.aclose()

    def set(self, key: str, at: float | None) -> None:
        """Has the key's alarm ring at ``at``, seconds since 1970, soon where that is past; None: never."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if at is not None:
            self._wait(key, at)

    def _wait(self, key: str, at: float) -> None:
        left_s = at - time.time()
        if left_s > 0:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(min(left_s, _LOOK_S), self._wait, key, at)
            return
        self._timers.pop(key, None)
        with contextlib.suppress(Draining):
            self._tasks.spawn(self._ring(key), name=f"alarm {key}")
