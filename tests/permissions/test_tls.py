"""TLS between TrackService and the permission service: the client certificate in the token's place."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.certificates import Certificate, authority, issue, server_certificate
from tests.chained_server import failure, until
from tests.conftest import StartPermissions
from tests.permission_process import PermissionClient, PermissionProcess
from tests.server_process import StartError
from track.permission.v1.permission_service_pb2 import CheckPermissionRequest
from track.v1.access_pb2 import Permission, Principal

QUESTION = CheckPermissionRequest(
    principal=Principal(identity="alice"), permission=Permission.PERMISSION_READ_SERVER, room="demo"
)


@contextlib.asynccontextmanager
async def secure(
    service: PermissionProcess, ca: Certificate, certificate: Certificate | None = None
) -> AsyncIterator[PermissionClient]:
    """A caller on a connection of its own, with that client certificate."""
    pair = (certificate.key, certificate.pem) if certificate else (None, None)
    async with grpc.aio.secure_channel(
        service.address,
        grpc.ssl_channel_credentials(ca.pem, *pair),
        options=(("grpc.use_local_subchannel_pool", 1),),
    ) as channel:
        yield PermissionClient(channel)


@pytest.fixture
def ca(tmp_path: Path) -> Certificate:
    """The CA of the servers; the service's own certificate is written."""
    made = authority("servers")
    server_certificate(made).write(tmp_path / "tls", "server")
    return made


def settings(directory: Path, **more: str) -> dict[str, str]:
    cert, key = directory / "tls" / "server.pem", directory / "tls" / "server.key"
    return {"TRACK_PERMISSION_SERVER_TLS_CERT": str(cert), "TRACK_PERMISSION_SERVER_TLS_KEY": str(key), **more}


async def test_a_client_certificate_opens_it_and_none_other(
    start_permissions: StartPermissions, tmp_path: Path, ca: Certificate
) -> None:
    clients = authority("clients")
    clients.write(tmp_path / "tls", "clients-ca")
    asks = {"TRACK_PERMISSION_SERVER_TLS_CLIENT_CA": str(tmp_path / "tls" / "clients-ca.pem")}
    service = await start_permissions(None, settings(tmp_path, TRACK_PERMISSION_TOKEN="", **asks))
    async with secure(service, ca, issue("track", clients)) as client:
        await client.CheckPermission(QUESTION)
        await until(lambda: any(line.get("method", "").endswith("/CheckPermission") for line in service.log()))
    for refused in (None, issue("track", authority("others"))):
        async with secure(service, ca, refused) as client:
            error = await failure(client.CheckPermission(QUESTION))
            assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_with_a_token_too_either_is_enough_and_a_wrong_token_is_not(
    start_permissions: StartPermissions, tmp_path: Path, ca: Certificate
) -> None:
    clients = authority("clients")
    clients.write(tmp_path / "tls", "clients-ca")
    asks = {"TRACK_PERMISSION_SERVER_TLS_CLIENT_CA": str(tmp_path / "tls" / "clients-ca.pem")}
    service = await start_permissions(None, settings(tmp_path, **asks))
    async with secure(service, ca, issue("track", clients)) as client:
        await client.CheckPermission(QUESTION)
        await client.CheckPermission(QUESTION, metadata=(("authorization", f"Bearer {service.token}"),))
        error = await failure(client.CheckPermission(QUESTION, metadata=(("authorization", "Bearer wrong"),)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_token_goes_over_tls_and_the_certificate_is_exchanged_while_it_runs(
    start_permissions: StartPermissions, tmp_path: Path, ca: Certificate
) -> None:
    service = await start_permissions(None, settings(tmp_path, TRACK_PERMISSION_LISTEN="0.0.0.0:0"))
    service.address = service.address.replace("0.0.0.0", "127.0.0.1")
    bearer = (("authorization", f"Bearer {service.token}"),)
    async with secure(service, ca) as client:
        await client.CheckPermission(QUESTION, metadata=bearer)
        error = await failure(client.CheckPermission(QUESTION))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    taken = len(service.logged("certificate_taken"))
    another = authority("others")
    server_certificate(another).write(tmp_path / "tls", "server")
    await until(lambda: len(service.logged("certificate_taken")) > taken)
    async with secure(service, another) as client:
        await client.CheckPermission(QUESTION, metadata=bearer)


async def test_a_certificate_that_cannot_be_read_ends_the_start_with_its_setting(
    start_permissions: StartPermissions, tmp_path: Path, ca: Certificate
) -> None:
    given = settings(tmp_path) | {"TRACK_PERMISSION_SERVER_TLS_KEY": str(tmp_path / "none.key")}
    with pytest.raises(StartError, match=r"TRACK_PERMISSION_SERVER_TLS_KEY: .* cannot be read"):
        await start_permissions(None, given)
