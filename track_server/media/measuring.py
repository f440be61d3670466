"""When a session takes statistics: at the interval that the server asks for."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from track.media.v1.media_service_pb2 import SessionStats
from track_server.media.carriers import Carrier, MediaCarrier
from track_server.media.stats import excuse_network

log = structlog.get_logger(__name__)


class Measuring:
    """Has `measure` called. What it raises is logged, and ends nothing."""

    def __init__(self, measure: Callable[[], Awaitable[None]]) -> None:
        self._measure = measure
        self._interval_s = 0.0
        self._changed = asyncio.Event()

    def want(self, interval_s: float) -> None:
        """How often, in seconds; 0: not at all."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._changed.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            self._changed.clear()
            # Another interval counts from now, not after what is left of a longer one.
            if await self._changes_within(self._interval_s or None):
                continue
            try:
                await self._measure()
            except Exception:
                log.exception("measuring_broke")

    async def _changes_within(self, timeout_s: float | None) -> bool:
        """Waits for another interval, at most so long; says whether there is one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await self._changed.wait()
        return False


async def read_carriers(carriers: Mapping[str, Carrier]) -> SessionStats:
    """The statistics of those that have any, by publication id."""
    results = await asyncio.gather(*(carrier.stats() for carrier in carriers.values()), return_exceptions=True)
    message = SessionStats()
    for key, result in zip(carriers, results, strict=True):
        if isinstance(result, BaseException):
            log.info("stats_unreadable", publication_id=key, cause=repr(result))
            continue
        result.publication_id = key
        result.measure_time.FromNanoseconds(time.time_ns())
        message.tracks.append(result)
    excuse_network(
        message.tracks, sum(carrier.most_bps for carrier in carriers.values() if isinstance(carrier, MediaCarrier))
    )
    return message
