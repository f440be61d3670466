"""What follows the store's pace: gathered as it comes, and written behind, in order, many at a time."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from track_server.lifetime import Closing, Tasks
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Backlog(Closing, Generic[T]):
    """What waits to be written, `async with`; its end writes what waits then.

    ``write`` writes a batch, the oldest first, and raises StoreError where it cannot; that batch is given up.
    ``gather_s``: so long things are gathered, because a write is a sync to disk, whatever is in it; ``batch``: most of
    one write; ``most``: most that wait: beyond, the store cannot keep up, and new ones are not kept. ``lost`` is the
    warning in the log, once until a write succeeds again.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], Awaitable[None]], *, gather_s: float, batch: int, most: int, lost: str
    ) -> None:
        self._write = write
        self._gather_s = gather_s
        self._batch = batch
        self._most = most
        self._lost = lost
        self._waiting: list[T] = []
        self._kept = self._done = 0
        """What was to be kept, and what of it was written or given up."""
        self._failing = False
        self._came = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settled = asyncio.Event()
        self._closing = False
        self._tasks = Tasks()
        self._writer = self._tasks.begin(self._write_all(), name=f"backlog of the store, {lost}")

    async def aclose(self) -> None:
        """Writes what waits. May be called twice."""
        self._closing = True
        self._came.set()
        self._hurry.set()
        await asyncio.wait([self._writer])
        await self._tasks.aclose()

    def keep(self, thing: T) -> None:
        """Has it written, after those before it."""
        if len(self._waiting) >= self._most:
            self._fail("the store is too slow")
            return
        self._waiting.append(thing)
        self._kept += 1
        self._came.set()

    async def flush(self) -> None:
        """Returns once all that was to be kept until now is in the store, or was given up."""
        goal = self._kept
        while self._done < goal and not self._writer.done():
            self._hurry.set()
            await self._settled.wait()

    async def _write_all(self) -> None:
        while not (self._closing and not self._waiting):
            await self._came.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._gather_s):
                    await self._hurry.wait()
            if not self._closing:
                self._hurry.clear()
            await self._write_oldest()
            if not self._waiting and not self._closing:
                self._came.clear()

    async def _write_oldest(self) -> None:
        batch, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
        if not batch:
            return
        try:
            await self._write(batch)
        except StoreError as error:
            self._fail(str(error))
        else:
            self._failing = False
        finally:
            self._done += len(batch)
            settled, self._settled = self._settled, asyncio.Event()
            settled.set()

    def _fail(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            log.warning(self._lost, reason=reason)
