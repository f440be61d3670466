"""Readiness: whether LiveKit answers and takes our key, the store can be written, and we are not on our way out."""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from grpc_health.v1 import health_pb2

from track.v1 import track_service_pb2
from track_server.errors import TrackError
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
    """Where LiveKit is, and as whom we come."""

    url: str
    api_key: str
    api_secret: str


class Statuses(Protocol):
    """Where health is told."""

    async def set(self, service: str, status: int) -> None:
        """Tells how a service is from now on."""


class Readiness:
    """Looks every INTERVAL_S and tells `grpc.health.v1`: "" while the process lives, SERVICE while it can work.

    ``livekit``: what the LiveKit server told of itself when it was reached last; None before, ``reachable``: now.
    """

    def __init__(self, servicer: Statuses, api: LiveKitApi, store: Store, address: LiveKitAddress) -> None:
        self.livekit: ServerInfo | None = None
        self.reachable = False
        self._servicer = servicer
        self._api = api
        self._store = store
        self._address = address
        self._draining = False

    async def run(self) -> None:
        """Looks until cancelled."""
        await self._servicer.set("", SERVING)
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Looks once."""
        reachable = await self._reach()
        if reachable != self.reachable:
            log.info("livekit_reachable" if reachable else "livekit_unreachable", url=self._address.url)
        self.reachable = reachable
        ready = reachable and await self._writable() and not self._draining
        await self._servicer.set(SERVICE, SERVING if ready else NOT_SERVING)

    async def drain(self) -> None:
        """Not ready any more, for good."""
        self._draining = True
        await self._servicer.set(SERVICE, NOT_SERVING)

    async def _reach(self) -> bool:
        try:
            await self._api.find_rooms(["-"])
            if not self.reachable or self.livekit is None:
                # It may have been exchanged for another version while it was away.
                self.livekit = await probe(self._address.url, self._address.api_key, self._address.api_secret)
        except TrackError as error:
            log.debug("livekit_not_ready", reason=error.message)
            return False
        return True

    async def _writable(self) -> bool:
        try:
            await self._store.check()
        except StoreError as error:
            log.warning("store_not_writable", reason=str(error))
            return False
        return True
