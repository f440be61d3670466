"""Commands to a client that may give a track another SID: each is followed to its end, whoever waits for it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from track.control.v1 import control_pb2 as control
from track.control.v1.control_pb2 import Reply
from track_server.deadline import Deadline

log = structlog.get_logger(__name__)


class Changes:
    """Those of one publication. ``moved``: told of the SID of one that is done; ``settled``: called after each."""

    def __init__(self, moved: Callable[[str], Awaitable[None]], settled: Callable[[], None]) -> None:
        self._moved = moved
        self._settled = settled
        self._tasks: set[asyncio.Task[Reply]] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    async def make(self, do: Callable[[], Awaitable[Reply]], deadline: Deadline) -> Reply:
        """The last reply; ACCEPTED where the deadline came first, UNSPECIFIED where it is followed no more. Raises what
        ``do`` raises."""
        task = asyncio.create_task(self._follow(do), name="client change")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait({task}, timeout=deadline.remaining_s())
        if not task.done():
            return Reply(status=control.COMMAND_STATUS_ACCEPTED)
        return Reply() if task.cancelled() else task.result()

    async def aclose(self) -> None:
        """Follows none any more. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, do: Callable[[], Awaitable[Reply]]) -> Reply:
        reply = await do()
        if reply.status == control.COMMAND_STATUS_DONE and reply.result.track_sid:
            await self._moved(reply.result.track_sid)
        return reply

    def _done(self, task: "asyncio.Task[Reply]") -> None:
        self._tasks.discard(task)
        self._settled()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("client_not_changed", reason=str(error))
