"""How long things live: what is closed at the end of a block, and the tasks that somebody owns."""

import abc
import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from track_server.errors import Draining, TrackError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Closing(abc.ABC):
    """`async with` for what has an ``aclose``, which is called at the end of the block, however it ends."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Ends it. May be called twice."""


class Tasks(Closing):
    """Owner of tasks that run until they end, or until it is closed.

    An exception with which a task ends is told in the log: a TrackError, which a caller may see, as a line, and any
    other as an error with its traceback.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        """Tasks that run."""
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, object], *, name: str) -> None:
        """Runs ``work``, for whose result nobody waits. Raises Draining once closed; then ``work`` never begins."""
        _ = self.begin(work, name=name)

    def begin(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """``spawn`` for who wants the task: to wait for its result, or to cancel it earlier."""
        if self._closed:
            work.close()
            raise Draining("the server is shutting down")
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def settle(self, timeout_s: float | None = None) -> None:
        """Waits until all that run now have ended, ``timeout_s`` seconds at most where it is given. Cancels nothing."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)

    async def aclose(self) -> None:
        """Cancels the tasks, once, and waits for them, however long they clean up. Must not be called by one of them.

        Who is cancelled while waiting leaves them to the next call.
        """
        if not self._closed:
            self._closed = True
            for task in self._running:
                task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, TrackError):
            log.info("task_refused", task=task.get_name(), reason=error.message)
        elif error is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)
