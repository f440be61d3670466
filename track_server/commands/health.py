"""`track-server health`: asks a server how it is, as an orchestrator's probe."""

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from track_server.commands.channel import Server


def ask(server: Server, *, service: str, timeout: float) -> int:
    """Prints the answer; returns the exit status, 0 for a service that is serving. Raises SettingsError.

    ``timeout``: seconds.
    """
    with server.channel() as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(request, timeout=timeout)
        except grpc.RpcError as error:
            print(f"{server.target}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    print(f"{server.target}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1
