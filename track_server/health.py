"""Readiness: whether LiveKit takes our key, all else that is needed is there, and we are not on our way out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import structlog
from grpc_health.v1 import health_pb2

from track.v1 import track_service_pb2
from track_server.errors import TrackError
from track_server.keys import KeyRing
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.livekit.jobs import ServerInfo, probe
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

SERVICE: Final = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].full_name
INTERVAL_S: Final = 2.0

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class LiveKitAddress:
    """Where LiveKit is, and as whom we come: under the acting key."""

    url: str
    keys: KeyRing


@dataclass(frozen=True, slots=True)
class Condition:
    """Something else that is needed. ``name``: for the log; ``holds``: whether it is there now, within seconds."""

    name: str
    holds: Callable[[], Awaitable[bool]]


class Statuses(Protocol):
    """Where health is told."""

    async def set(self, service: str, status: int) -> None:
        """Tells how a service is from now on."""


class Readiness(Closing):
    """Looks every INTERVAL_S and tells `grpc.health.v1`: "" while the process lives, SERVICE while it can work.

    `async with` looks once, and then goes on. ``conditions``: what is needed beside LiveKit and the store.
    ``livekit``: what the LiveKit server told of itself when it was reached last; None before, ``reachable``: now.
    """

    def __init__(
        self,
        servicer: Statuses,
        api: LiveKitApi,
        store: Store,
        address: LiveKitAddress,
        conditions: Sequence[Condition] = (),
    ) -> None:
        self.livekit: ServerInfo | None = None
        self.reachable = False
        self._servicer = servicer
        self._api = api
        self._store = store
        self._address = address
        self._conditions = (Condition("store", self._writable), *conditions)
        self._missing: list[str] = []
        # Why LiveKit cannot be used, "" where it can; None before the first look.
        self._fault: str | None = None
        self._draining = False
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        await self.look()
        self._tasks.spawn(self._run(), name="readiness")
        return self

    async def aclose(self) -> None:
        """Looks no more. May be called twice."""
        await self._tasks.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.look()
            except Exception:
                # A fault of ours. What was told last stays, and the next look may go well.
                log.exception("readiness_not_looked_at")

    async def look(self) -> None:
        """Looks once."""
        holding = asyncio.gather(*(each.holds() for each in self._conditions))
        fault, held = await asyncio.gather(self._reach(), holding)
        reachable = not fault
        if self._fault is None or reachable != self.reachable:
            if reachable:
                log.info("livekit_reachable", url=self._address.url)
            else:
                log.warning("livekit_unreachable", url=self._address.url, reason=fault)
        self._fault, self.reachable = fault, reachable
        missing = [each.name for each, holds in zip(self._conditions, held, strict=True) if not holds]
        if missing != self._missing:
            log.info("not_ready" if missing else "ready_again", missing=missing)
        self._missing = missing
        ready = reachable and not missing and not self._draining
        await self._servicer.set(SERVICE, SERVING if ready else NOT_SERVING)

    async def drain(self) -> None:
        """Not ready any more, for good."""
        self._draining = True
        await self._servicer.set(SERVICE, NOT_SERVING)

    async def _reach(self) -> str:
        """What is wrong with LiveKit or our key for it, "" where nothing is."""
        try:
            await self._api.find_rooms(["-"])
            if not self.reachable or self.livekit is None:
                # It may have been exchanged for another version while it was away.
                acting = self._address.keys.acting
                self.livekit = await probe(self._address.url, acting.key, acting.secret)
        except TrackError as error:
            return error.message
        return ""

    async def _writable(self) -> bool:
        try:
            await self._store.check()
        except StoreError as error:
            log.warning("store_not_writable", reason=str(error))
            return False
        return True
