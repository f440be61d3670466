"""Callers over TLS, and the files of a server that has it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from tests.certificates import Certificate, authority, server_certificate
from tests.server_process import bearing_token
from tests.track_process import Client, TrackProcess
from track.v1 import server_info_pb2, tracks_pb2


@dataclass
class Files:
    """The files of a server with TLS, and the CA behind them."""

    directory: Path
    ca: Certificate
    clients_ca: Certificate

    @classmethod
    def made(cls, directory: Path) -> "Files":
        files = cls(directory, authority("servers"), authority("clients"))
        files.serve(server_certificate(files.ca))
        files.clients_ca.write(directory, "clients-ca")
        return files

    def serve(self, certificate: Certificate) -> None:
        """Writes the server's certificate."""
        certificate.write(self.directory, "server")

    def map(self, text: str) -> None:
        """Writes who the clients are."""
        (self.directory / "clients.toml").write_text(text)

    @property
    def tls(self) -> dict[str, str]:
        """Settings of TLS."""
        names = {"TRACK_TLS_CERT": "server.pem", "TRACK_TLS_KEY": "server.key"}
        return {"TRACK_MEDIA_WORKERS": "0"} | {name: str(self.directory / file) for name, file in names.items()}

    @property
    def mtls(self) -> dict[str, str]:
        """Settings of TLS that asks for client certificates."""
        names = {"TRACK_TLS_CLIENT_CA": "clients-ca.pem", "TRACK_TLS_CLIENTS": "clients.toml"}
        return self.tls | {name: str(self.directory / file) for name, file in names.items()}


@contextlib.asynccontextmanager
async def secure(
    track: TrackProcess, ca: Certificate, certificate: Certificate | None = None, token: str | None = None
) -> AsyncIterator[Client]:
    """A caller over TLS, on a connection of its own, with a client certificate or a token or both."""
    pair = (certificate.key, certificate.pem) if certificate else (None, None)
    async with grpc.aio.secure_channel(
        track.address,
        grpc.ssl_channel_credentials(ca.pem, *pair),
        options=(("grpc.use_local_subchannel_pool", 1),),
        interceptors=bearing_token(token),
    ) as channel:
        yield Client(channel)


async def shown(track: TrackProcess, ca: Certificate) -> str:
    """The subject of the certificate that a new connection sees."""
    context = ssl.create_default_context(cadata=ca.pem.decode())
    context.set_alpn_protocols(["h2"])
    host, port = track.address.split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
    # Closed in order, it would wait for the server's part in it.
    writer.transport.abort()
    return certificate.subject.rfc4514_string()


async def until_shown(track: TrackProcess, ca: Certificate, name: str) -> None:
    """Waits until new connections see the certificate of that name."""
    async with asyncio.timeout(45):
        while await shown(track, ca) != f"CN={name}":
            await asyncio.sleep(0.05)


def listed(client: Client, room: str) -> Any:
    """A call that reads the room."""
    return client.ListTracks(tracks_pb2.ListTracksRequest(room=room), timeout=30)


def asked(client: Client) -> Any:
    """A call that any known principal may make."""
    return client.GetServerInfo(server_info_pb2.GetServerInfoRequest(), timeout=30)


async def unreachable(call: Awaitable[Any]) -> None:
    """The connection must not come about."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
