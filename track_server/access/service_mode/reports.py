"""Tells the permission service where its decisions and LiveKit's disagree, beside the calls that find out."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from track.permission.v1 import permission_service_pb2 as pb
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.service_mode.asking import message_of
from track_server.access.service_mode.decisions import Key, key_of
from track_server.access.service_mode.metrics import PermissionCounts
from track_server.errors import PermissionServiceUnavailable
from track_server.lifetime import Closing, Tasks
from track_server.permission_client.client import PermissionClient

log = structlog.get_logger(__name__)

_WAITING: Final = 1000
"""Reports that wait to be sent; further ones are dropped."""
_REMEMBERED: Final = 10_000
_AGAIN_S: Final = 60.0
"""The same disagreement is told again after so long."""
_MAX_DETAIL_CHARS: Final = 500


class Reports(Closing):
    """Sends reports one by one. `async with` runs it; what waits at the end is dropped. ``clock``: seconds."""

    def __init__(
        self,
        client: PermissionClient,
        counts: PermissionCounts,
        *,
        request_id: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._counts = counts
        self._request_id = request_id
        self._clock = clock
        self._waiting: asyncio.Queue[pb.ReportPermissionIssueRequest] = asyncio.Queue(_WAITING)
        self._told: dict[tuple[Key, int], float] = {}
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._send(), name="permission-reports")
        return self

    async def aclose(self) -> None:
        """Ends it. May be called twice."""
        await self._tasks.aclose()

    def tell(
        self, principal: Principal, question: Question, issue: "pb.PermissionIssue.ValueType", detail: str
    ) -> None:
        """The disagreement will be told, unless it was of late, or too many wait. Takes no time."""
        key, now = (key_of(principal, question), int(issue)), self._clock()
        if now - self._told.get(key, -_AGAIN_S) < _AGAIN_S:
            return
        report = pb.ReportPermissionIssueRequest(
            check=message_of(principal, question),
            issue=issue,
            detail=detail[:_MAX_DETAIL_CHARS],
            request_id=self._request_id(),
        )
        report.time.GetCurrentTime()
        try:
            self._waiting.put_nowait(report)
        except asyncio.QueueFull:
            self._counts.reports_dropped += 1
            return
        self._told.pop(key, None)
        self._told[key] = now
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]

    async def _send(self) -> None:
        while True:
            report = await self._waiting.get()
            try:
                await self._client.report(report)
            except PermissionServiceUnavailable as error:
                self._counts.reports_dropped += 1
                log.info("permission_report_dropped", reason=str(error.__cause__))
            except Exception:
                # A fault of ours: the others are sent all the same.
                self._counts.reports_dropped += 1
                log.exception("permission_report_failed")
            else:
                self._counts.reports_sent += 1
