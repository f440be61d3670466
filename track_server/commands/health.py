"""`track-server health`: asks a server how it is, as an orchestrator's probe."""

import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from track_server.config import Listening, SettingsError, is_loopback, split_address
from track_server.pem import read_authorities, read_pair


def ask(
    *,
    address: str | None,
    service: str,
    timeout: float,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_name: str | None,
) -> int:
    """Prints the answer; returns the exit status, 0 for a service that is serving. Raises SettingsError.

    ``address``: `host:port`, None for that of the settings. ``timeout``: seconds. ``tls_ca`` and the others are PEM
    files; without ``tls_ca`` the server is asked in clear text. ``tls_name``: the name that its certificate must have,
    None for its host.
    """
    try:
        host, port = split_address(address or Listening.load().listen)
    except ValueError as error:
        raise SettingsError([f"--address {error}."]) from error
    # A server that listens on every interface is asked on this machine.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    # A proxy of the environment is for calls that leave the machine.
    channel_options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0 if is_loopback(host) else 1)]
    if tls_name:
        channel_options.append(("grpc.ssl_target_name_override", tls_name))
    credentials = _credentials(tls_ca, tls_cert, tls_key, tls_name)
    with (
        grpc.insecure_channel(target, options=channel_options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options=channel_options)
    ) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(request, timeout=timeout)
        except grpc.RpcError as error:
            print(f"{target}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    print(f"{target}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def _credentials(ca: str | None, cert: str | None, key: str | None, name: str | None) -> grpc.ChannelCredentials | None:
    if not ca:
        if cert or key or name:
            raise SettingsError(["--tls-cert, --tls-key and --tls-name need --tls-ca."])
        return None
    if bool(cert) != bool(key):
        raise SettingsError(["--tls-cert and --tls-key go together."])
    try:
        authorities = read_authorities(Path(ca), "--tls-ca")
        if not (cert and key):
            return grpc.ssl_channel_credentials(authorities)
        chain, private, _ = read_pair(Path(cert), Path(key), ("--tls-cert", "--tls-key"))
    except ValueError as error:
        raise SettingsError([f"{error}."]) from error
    return grpc.ssl_channel_credentials(authorities, private, chain)
