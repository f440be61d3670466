"""One line a call."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from google.rpc import code_pb2

from track_server.interceptors.context import Call
from track_server.interceptors.method import Handler, Method

# Faults of ours; everything else is the caller's business.
_FAULTS: Final = frozenset({code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.DATA_LOSS, code_pb2.UNIMPLEMENTED})
CODE_NAMES: Final = {number: name for name, number in code_pb2.Code.items()}

# A line is written so much later at most. Written one by one, between calls, lines cost four times as much.
_DELAY_S: Final = 0.05
# So many are written at once, whatever the time.
_BATCH: Final = 200


class CallLog:
    """Logs every call when it ends. Health and reflection only at level debug: probes come every few seconds.

    Lines are written in batches; `flush` writes those that wait.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger("track_server.call")
        self._waiting: list[tuple[Call, float, float]] = []
        self._timer: asyncio.TimerHandle | None = None

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        waiting = self._waiting

        async def handle(request: Any, call: Call) -> Any:
            try:
                return await inner(request, call)
            finally:
                waiting.append((call, time.time(), time.monotonic() - call.started))
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
        calls = self._waiting.copy()
        self._waiting.clear()
        for call, ended, took in calls:
            self._level(call)("call", **_facts(call, ended, took))

    def _level(self, call: Call) -> Callable[..., Any]:
        if call.code in _FAULTS:
            return self._log.error  # type: ignore[no-any-return]
        return self._log.info if call.method.ours else self._log.debug  # type: ignore[no-any-return]
