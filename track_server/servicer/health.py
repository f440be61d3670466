"""Health: the answers of `grpc.health.v1`. The servicer of grpcio-health-checking has no List in its aio form."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthServicer

_SERVICE_UNKNOWN: Final = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health(HealthServicer):  # type: ignore[misc]  # it has no types
    """See Health in its contract. The server's own name, "", is SERVING from the beginning."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {"": pb.HealthCheckResponse.SERVING}
        self._changed = asyncio.Event()

    async def set(self, service: str, status: int) -> None:
        """Tells how a service is from now on."""
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            self._changed.set()
            self._changed = asyncio.Event()

    async def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            raise await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return pb.HealthCheckResponse(status=status)

    async def List(self, request: pb.HealthListRequest, context: Any) -> pb.HealthListResponse:
        return pb.HealthListResponse(
            statuses={name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        )

    async def Watch(self, request: pb.HealthCheckRequest, context: Any) -> AsyncIterator[pb.HealthCheckResponse]:
        told = None
        while True:
            changed, status = self._changed, self._statuses.get(request.service, _SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield pb.HealthCheckResponse(status=status)
            else:
                await changed.wait()
