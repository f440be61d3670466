"""The streams that are open, and how they are ended from outside: on the way out, or when their permission is gone."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from track_server.access.revocation import Revocation
from track_server.errors import TrackError
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method


@dataclass(eq=False, slots=True)
class _Open:
    """A stream that is served. ``error``: the one with which it is being ended."""

    method: Method
    task: asyncio.Task[Any]
    error: TrackError | None = None

    def end(self, error: TrackError) -> None:
        """Ends it with that error; the first one counts."""
        if self.error is None:
            self.error = error
            self.task.cancel()


class OpenStreams:
    """All open streams. ``revocation`` ends those about a room when their permission is gone; None: nobody does."""

    def __init__(self, revocation: Revocation | None) -> None:
        self._revocation = revocation
        self._open: set[_Open] = set()
        self._closed: list[tuple[Callable[[Method], bool], TrackError]] = []

    def end(self, concerned: Callable[[Method], bool], error: TrackError) -> None:
        """From now on the streams of the RPCs concerned end with ``error``: those that are open, and those to come."""
        self._closed.append((concerned, error))
        for found in list(self._open):
            if concerned(found.method):
                found.end(error)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.streams:
            return inner
        revocation = self._revocation if method.ours and method.has_room else None

        async def handle(request: Any, call: Call) -> Any:
            with self.open(method) as end, ExitStack() as resting:
                call.end = end
                if revocation is not None:
                    for room in (call.room, *call.rooms):
                        resting.enter_context(revocation.stream(call.caller, method.permission, room, end))
                return await inner(request, call)

        return handle

    @contextmanager
    def open(self, method: Method) -> Iterator[Callable[[TrackError], None]]:
        """In the block, the running task serves a stream, which what it gives ends. Raises the error with which it is
        ended, from here or by that."""
        task = asyncio.current_task()
        assert task is not None
        for concerned, error in self._closed:
            if concerned(method):
                raise error.with_traceback(None)
        found = _Open(method, task)
        self._open.add(found)
        try:
            yield found.end
        except asyncio.CancelledError:
            # Unless the caller cancelled as well, it is our own doing.
            if found.error is not None and task.uncancel() == 0:
                # Others may be ended with the same error: it must not collect their tracebacks.
                raise found.error.with_traceback(None) from None
            raise
        finally:
            self._open.discard(found)
