"""Calls beyond a limit are refused, each as early as it is known for whom it counts. See docs/limits.md.

Those of TrackService alone: probes must be answered whatever the load, and media sessions carry out what was granted
already.
"""

import asyncio
from collections.abc import Awaitable, Hashable
from typing import Any, Final

from track_server.access.principal import Principal
from track_server.config.limits import LimitSettings
from track_server.errors import ConnectionTooOld, LimitExceeded
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method
from track_server.limits.counts import Counts
from track_server.limits.rates import Rates

# How soon a place becomes free is not known: calls end within seconds, streams when their readers go.
_RETRY_CALL_S: Final = 1.0
_RETRY_STREAM_S: Final = 5.0
SERVER: Final = "server"


class ServerLimits:
    """What counts for the server as a whole and needs no request: sizes, and how much goes on at once.

    Before authentication. How many calls a second come is counted behind it (PrincipalLimits): counted here, one caller
    beyond its own limit, or a stranger, would use up what is for all.
    """

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._streams = Counts(limits.max_streams)
        self._calls = 0

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.for_callers:
            return inner
        most_header, most_request = self._limits.max_header_bytes, self._limits.max_request_bytes
        most_calls, age_s = self._limits.max_concurrent_calls, self._limits.max_connection_age_seconds

        async def unary(request: Any, call: Call) -> Any:
            if call.header_bytes > most_header:
                raise LimitExceeded("max_header_bytes", most_header, "call")
            if len(request) > most_request:
                raise LimitExceeded("max_request_bytes", most_request, "request")
            if self._calls >= most_calls:
                raise LimitExceeded("max_concurrent_calls", most_calls, SERVER, retry_delay_s=_RETRY_CALL_S)
            self._calls += 1
            try:
                return await inner(request, call)
            finally:
                self._calls -= 1

        def streaming(request: Any, call: Call) -> Awaitable[Any]:
            if call.header_bytes > most_header:
                raise LimitExceeded("max_header_bytes", most_header, "call")
            if not method.request_streaming and len(request) > most_request:
                raise LimitExceeded("max_request_bytes", most_request, "request")
            _open(self._streams, None, "max_streams", SERVER)
            return aged(request, call) if age_s else inner(request, call)

        async def aged(request: Any, call: Call) -> Any:
            # The connection stays for as long again (`connection_options`), so that the stream ends with a reason.
            age = asyncio.timeout(age_s)
            try:
                async with age:
                    return await inner(request, call)
            except TimeoutError:
                if age.expired():
                    raise ConnectionTooOld(age_s) from None
                raise

        return streaming if method.streams else unary


class PrincipalLimits:
    """What counts for a caller, and then the calls a second of the server. Behind authentication."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._own = Rates(limits.max_requests_per_second_per_principal)
        self._all = Rates(limits.max_requests_per_second)
        self._calls = Counts(limits.max_concurrent_calls_per_principal)
        self._streams = Counts(limits.max_streams_per_principal)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.for_callers:
            return inner
        calls, most_calls = self._calls, self._calls.most
        own, all_calls, limits = self._own.take, self._all.take, self._limits

        def rate(call: Call) -> Hashable:
            scope = call.caller.scope
            # First its own: what is beyond that does not count for all.
            if wait_s := own(scope, call.started):
                most = limits.max_requests_per_second_per_principal
                raise _too_often("max_requests_per_second_per_principal", most, _name(call.caller), wait_s)
            if wait_s := all_calls(None, call.started):
                raise _too_often("max_requests_per_second", limits.max_requests_per_second, SERVER, wait_s)
            return scope

        async def unary(request: Any, call: Call) -> Any:
            scope = rate(call)
            if not calls.enter(scope):
                raise LimitExceeded(
                    "max_concurrent_calls_per_principal", most_calls, _name(call.caller), retry_delay_s=_RETRY_CALL_S
                )
            try:
                return await inner(request, call)
            finally:
                calls.leave(scope)

        def streaming(request: Any, call: Call) -> Awaitable[Any]:
            scope = rate(call)
            _open(self._streams, scope, "max_streams_per_principal", _name(call.caller))
            return inner(request, call)

        return streaming if method.streams else unary


class RoomLimits:
    """What counts for a room. Behind authorisation: who may do nothing there must not use up what is for the room."""

    def __init__(self, limits: LimitSettings) -> None:
        self._most = limits.max_requests_per_second_per_room
        self._calls = Rates(self._most)
        self._streams = Counts(limits.max_streams_per_room)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.for_callers or not method.has_room:
            return inner
        take, streams = self._calls.take, method.streams

        def handle(request: Any, call: Call) -> Awaitable[Any]:
            for room in call.rooms or (call.room,):
                if wait_s := take(room, call.started):
                    raise _too_often("max_requests_per_second_per_room", self._most, f"room {room}", wait_s)
                if streams:
                    _open(self._streams, room, "max_streams_per_room", f"room {room}")
            return inner(request, call)

        return handle


class StrangerLimits:
    """So many unknown tokens are verified a second only.

    Verifying is all that strangers can make us do, and the dearest step before a call is refused.
    """

    def __init__(self, limits: LimitSettings) -> None:
        self._most = limits.max_authentications_per_second
        self._tokens = Rates(self._most)

    def admit(self, call: Call) -> None:
        """Returns where the call's token may be verified now; else raises LimitExceeded."""
        if call.authorization is None or not call.method.for_callers:
            return
        if wait_s := self._tokens.take(None, call.started):
            raise _too_often("max_authentications_per_second", self._most, SERVER, wait_s)


def _open(streams: Counts, key: Hashable, limit: str, subject: str) -> None:
    """Counts the running call as a stream until its task is over."""
    if not streams.enter(key):
        raise LimitExceeded(limit, streams.most, subject, retry_delay_s=_RETRY_STREAM_S)
    task = asyncio.current_task()
    assert task is not None
    # Not a coroutine around it, which would be resumed through at every message.
    task.add_done_callback(lambda _: streams.leave(key))


def _too_often(limit: str, most: int, subject: str, wait_s: float) -> LimitExceeded:
    # In tenths, so that refusals are alike and their status need not be made each time.
    return LimitExceeded(limit, most, subject, retry_delay_s=int(wait_s * 10 + 1) / 10)


def _name(principal: Principal) -> str:
    return f"principal {principal.identity}" if principal.identity else "principal"
