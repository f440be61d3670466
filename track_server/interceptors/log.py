"""One line a call."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Final

from google.rpc import code_pb2

from track_server.access.principal import Principal
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method
from track_server.logs import EventWriter

# Faults of ours; everything else is the caller's business.
_FAULTS: Final = frozenset({code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.DATA_LOSS})
CODE_NAMES: Final = {number: name for name, number in code_pb2.Code.items()}

# A line is written so much later at most. Written one by one, between calls, lines cost several times as much: the code
# that writes them and the code that serves calls push each other out of the processor's caches.
_DELAY_S: Final = 0.05
# So many are written at once, whatever the time.
_BATCH: Final = 200


class CallLog:
    """Logs every call when it ends. Health and reflection only at level debug: probes come every few seconds.

    Lines are written a moment later, several at once; `flush` writes those that wait.
    """

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self._waiting: list[_Line] = []
        self._timer: asyncio.TimerHandle | None = None

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not self._writer.enabled("info" if method.ours else "debug"):
            return inner
        waiting = self._waiting

        async def handle(request: Any, call: Call) -> Any:
            try:
                return await inner(request, call)
            finally:
                waiting.append(_line(call, method))
                if len(waiting) == 1:
                    self._timer = asyncio.get_running_loop().call_later(_DELAY_S, self.flush)
                elif len(waiting) >= _BATCH:
                    self.flush()

        return handle

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines = self._waiting.copy()
        self._waiting.clear()
        self._writer.write([_event(line) for line in lines])


# What a line is made of, a plain tuple since it is made between calls; it keeps nothing of the call alive.
_Line = tuple[Method, int, str, str, float, float, str, Principal | None, str, str, int, int]


def _line(call: Call, method: Method) -> _Line:
    return (
        method,
        call.code,
        call.reason,
        call.cause,
        time.monotonic() - call.started,
        time.time(),
        call.request_id,
        call.principal,
        call.room,
        call.context.peer(),
        call.sent,
        call.received,
    )


def _event(line: _Line) -> dict[str, Any]:
    method, code, reason, cause, took_s, ended, request_id, principal, room, peer, sent, received = line
    level = "error" if code in _FAULTS else "info" if method.ours else "debug"
    event: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(ended, UTC),
        "level": level,
        "event": "call",
        "method": method.path,
        "code": CODE_NAMES.get(code, str(code)),
        "duration_ms": round(took_s * 1000, 3),
        "request_id": request_id,
        "peer": peer,
    }
    if principal is not None:
        event["identity"] = principal.identity
    if room:
        event["room"] = room
    if method.streams:
        event["sent"] = sent
        event["received"] = received
    if code:
        event["reason"] = reason
        if cause:
            event["cause"] = cause
    return event
