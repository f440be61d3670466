"""The way out: no new calls, and streams that end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from track_server import errors
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method

# Callers' own service. Probes are answered to the last, and media sessions are needed by calls that still run.
_DRAINED: Final = "track.v1."
_RETRY_S: Final = 1.0
_LAST_WORD_S: Final = 0.1


class Draining:
    """A switch, off at first. One for all listeners of a server."""

    def __init__(self) -> None:
        self._active = False
        self._streams: dict[asyncio.Task[Any], Call] = {}

    @property
    def active(self) -> bool:
        """Whether new calls are refused."""
        return self._active

    def begin(self) -> None:
        """From now on refuse calls of TrackService, and end its streams, both with UNAVAILABLE and RetryInfo.

        Unary calls that run go on. Health, reflection and MediaService go on altogether.
        """
        self._active = True
        self._end(lambda method: method.service.startswith(_DRAINED))

    async def end_probes(self) -> None:
        """End the streams of health and reflection, a moment after the last health was told, so that it arrives."""
        await asyncio.sleep(_LAST_WORD_S)
        self._end(lambda method: not method.ours)

    def end_streams(self) -> None:
        """End every stream, whatever its service, so that the server need not wait for them."""
        self._active = True
        self._end(lambda method: True)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        refused = method.service.startswith(_DRAINED)
        streams = self._streams

        def unary(request: Any, call: Call) -> Awaitable[Any]:
            if self._active:
                raise _draining()
            return inner(request, call)

        async def streaming(request: Any, call: Call) -> Any:
            if refused and self._active:
                raise _draining()
            task = asyncio.current_task()
            assert task is not None
            streams[task] = call
            try:
                return await inner(request, call)
            except asyncio.CancelledError:
                # `_end` took the task out: unless the caller cancelled as well, this is our own doing.
                if task not in streams and task.uncancel() == 0:
                    raise _draining() from None
                raise
            finally:
                streams.pop(task, None)

        if method.request_streaming or method.response_streaming:
            return streaming
        return unary if refused else inner

    def _end(self, concerns: Callable[[Method], bool]) -> None:
        for task in [task for task, call in self._streams.items() if concerns(call.method)]:
            del self._streams[task]
            task.cancel()


def _draining() -> errors.Draining:
    return errors.Draining("The server is shutting down.", retry_delay_s=_RETRY_S)
