"""The way out: no new calls, and streams that end."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from track_server import errors
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method
from track_server.interceptors.streams import OpenStreams

_RETRY_S: Final = 1.0
_LAST_WORD_S: Final = 0.1


class DrainSwitch:
    """A switch, off at first. One for all listeners of a server, as is ``streams``."""

    def __init__(self, streams: OpenStreams) -> None:
        self.streams = streams
        self._active = False

    @property
    def active(self) -> bool:
        """Whether new calls are refused."""
        return self._active

    def begin(self) -> None:
        """From now on refuse calls of TrackService, and end its streams, both with UNAVAILABLE and RetryInfo.

        Unary calls that run go on. Health, reflection and MediaService go on altogether.
        """
        self._active = True
        self.streams.end(lambda method: method.for_callers, _draining())

    async def end_probes(self) -> None:
        """End the streams of health and reflection, a moment after the last health was told, so that it arrives."""
        await asyncio.sleep(_LAST_WORD_S)
        self.streams.end(lambda method: not method.ours, _draining())

    def end_streams(self) -> None:
        """End every stream, whatever its service, so that the server need not wait for them."""
        self._active = True
        self.streams.end(lambda method: True, _draining())

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.for_callers:
            return inner

        def handle(request: Any, call: Call) -> Awaitable[Any]:
            if self._active:
                raise _draining()
            return inner(request, call)

        return handle


def _draining() -> errors.Draining:
    return errors.Draining("the server is shutting down", retry_delay_s=_RETRY_S)
