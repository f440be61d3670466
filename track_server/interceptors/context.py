"""The call that is being served: who calls, how long it may take, under which id it is found in the log."""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol

from grpc import aio

from track_server.access.principal import Principal
from track_server.errors import TrackError
from track_server.interceptors.method import Method

# What a command waits for evidence where the call has no deadline.
DEFAULT_WAIT_S: Final = 10.0
# The answer must reach the caller before its deadline: leave 10 % of what remains, 50 ms at least.
_ANSWER_SHARE: Final = 0.1
_ANSWER_MIN_S: Final = 0.05

REQUEST_ID: Final = "x-request-id"
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch

_current: ContextVar["Call"] = ContextVar("current_call")


class Call:
    """One call. Made by the chain; `current_call` finds it from anywhere below."""

    # Defaults live in the class: most calls change few of them.
    principal: Principal | None = None
    """Who calls; None before it is known, and in health and reflection."""
    room = ""
    """The request's room; empty before it was validated, or where there is none."""
    rooms: Sequence[str] = ()
    """The request's rooms, where it has several instead."""
    request: Any = None
    """The request; None before it was validated, and where requests are streamed."""
    peer = ""
    """The caller's address, where it may be needed when the call is over: gRPC's context, asked then, crashes."""
    recorded = False
    """Whether a row of the record stands for it."""
    recording: "asyncio.Task[None] | None" = None
    """The write of that row. It must be over before the call is answered."""
    operation_key = ""
    """Of a mutation: the same for a call that is sent again with its `request_id`, random without one. What must happen
    once is to be named after it."""
    code = 0
    """gRPC status code with which it ends."""
    reason = ""
    """Reason of its failure, as in ErrorInfo."""
    cause = ""
    """What is behind its failure; for the log alone."""
    sent = 0
    """Messages streamed to the caller."""
    received = 0
    """Messages streamed by the caller."""
    request_id = ""
    """Under which the log and the caller know it: the caller's `x-request-id`, or one made here."""
    authorization: str | None = None
    """The metadata of that name."""
    limit = ""
    """The limit that it went beyond, where that is its failure."""
    end: Callable[[TrackError], None]
    """Ends the call with that error, even while a message is being written to a caller who does not read. Only of
    streams."""
    write: Callable[[Any], Awaitable[None]]
    """Sends a message of a stream, as message or already as bytes. Only where responses are streamed."""

    def __init__(self, method: Method, context: "aio.ServicerContext[Any, Any]") -> None:
        self.method = method
        self.context = context
        self.started = time.monotonic()
        """When it began, in seconds of the monotonic clock."""
        left = context.time_remaining()
        self.deadline: float | None = None if left is None else self.started + left
        """When it must be over, in seconds of the monotonic clock; None: it has no deadline."""
        size = 0
        for name, value in context.invocation_metadata() or ():
            size += len(name) + len(value)
            if name == "authorization":
                if isinstance(value, str):
                    # As HTTP joins them, which is no valid one: a proxy may have looked at the other.
                    self.authorization = value if self.authorization is None else f"{self.authorization}, {value}"
            elif name == REQUEST_ID and isinstance(value, str) and _SANE_ID(value):
                self.request_id = value
        self.header_bytes = size
        """Its metadata, names and values."""

    @property
    def caller(self) -> Principal:
        """Who calls. Only below the access check, where it is always known."""
        if self.principal is None:
            raise RuntimeError(f"{self.method.path} is not authenticated")
        return self.principal

    def remaining(self, default_s: float = DEFAULT_WAIT_S) -> float:
        """Seconds that a command may still wait, 0 or more: until a little before the deadline, or ``default_s``."""
        if self.deadline is None:
            return default_s
        left = self.deadline - time.monotonic()
        return max(0.0, left - max(_ANSWER_MIN_S, left * _ANSWER_SHARE))


def current_call() -> Call:
    """The call that the running task serves; raises LookupError outside of one."""
    return _current.get()


def time_left() -> float | None:
    """Seconds that the running call may still wait; None outside of one, and where it has no deadline."""
    call = _current.get(None)
    return None if call is None or call.deadline is None else call.remaining()


def request_id() -> str:
    """Id of the running call; empty outside of one."""
    call = _current.get(None)
    return "" if call is None else call.request_id


# Takes the request, or an asynchronous iterator of them, and the call; returns the response, or None where it streams
# its responses through `Call.write`.
Handler = Callable[[Any, Call], Awaitable[Any]]


class Concern(Protocol):
    """One thing that the chain sees to. Wraps each RPC once, at the start; returns ``inner`` where it has no part."""

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """The handler of the RPC with this concern around ``inner``."""


class CallIds:
    """Makes ids for calls that bring none: a random part that names this process, and a number."""

    def __init__(self) -> None:
        self._process = f"{os.urandom(6).hex()}-"
        self._numbers = itertools.count(1)

    def next(self) -> str:
        """The next id."""
        return self._process + str(next(self._numbers))


def entry(
    method: Method, inner: Handler, ids: CallIds
) -> "Callable[[Any, aio.ServicerContext[Any, Any]], Awaitable[Any]]":
    """The handler that gRPC calls: makes the Call, and tells the caller its id where the caller gave one.

    Failures tell it in any case, and streams at their beginning. The others would take a twentieth longer by it.
    """

    async def handle(request: Any, context: "aio.ServicerContext[Any, Any]") -> Any:
        call = Call(method, context)
        # Every RPC runs in a task, and so in a context, of its own: nothing to reset.
        _current.set(call)
        if call.request_id:
            context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        else:
            call.request_id = ids.next()
        return await inner(request, call)

    return handle
