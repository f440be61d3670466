"""The connection to the permission service: one channel, made anew when its certificates change."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Self

import grpc
import structlog
from grpc import aio

from track_server.config import Settings, SettingsError, environment_name, is_loopback, split_address
from track_server.lifetime import Closing
from track_server.pem import read_authorities, read_pair

log = structlog.get_logger(__name__)

KEEPALIVE_S: Final = 15.0
"""Pings also while nothing is asked. Above the 10 s that our own servers allow, see docs/access.md for others."""
KEEPALIVE_TIMEOUT_S: Final = 5.0
"""A peer that does not answer a ping for so long is gone."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""500 decisions of 8 KiB."""
# How long an attempt to connect may take; the next comes 0.1 to 2 s later.
_CONNECT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM of the CA of the permission service, and of our own certificate and key where we have one."""

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


class Connection(Closing):
    """A channel to ``settings.permission_address``. `async with` opens it; raises SettingsError.

    Without TLS where the settings have no CA, which they allow on loopback alone.

    ``channel`` is to be read anew for each call. ``metadata`` goes along with each.
    """

    channel: aio.Channel

    def __init__(self, settings: Settings) -> None:
        self.address = settings.permission_address
        token = settings.permission_token.get_secret_value()
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),) if token else ()
        self._settings = settings
        self._certificates: Certificates | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        self._certificates = await asyncio.to_thread(_read, self._settings)
        self.channel = self._made()
        self._open = True
        return self

    async def renew(self) -> None:
        """Takes another channel where the certificates have changed; where the files are no good, what is stays."""
        if self._settings.permission_tls_ca is None:
            return
        try:
            certificates = await asyncio.to_thread(_read, self._settings)
            if certificates == self._certificates:
                return
        except SettingsError as error:
            log.warning("permission_certificates_unreadable", reason=str(error))
            return
        self._certificates = certificates
        before, self.channel = self.channel, self._made()
        log.info("permission_certificates_read", address=self.address)
        await before.close(_CONNECT_S)

    async def aclose(self) -> None:
        """Closes the channel; calls that run end. May be called twice."""
        if self._open:
            self._open = False
            await self.channel.close()

    def _made(self) -> aio.Channel:
        host, _ = split_address(self.address)
        options: list[tuple[str, Any]] = [
            ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
            ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
            # grpcio 1.85.1 waits for the longer of the two, a minute by default.
            ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # The one retry is ours, and is seen in the metrics.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", int(_CONNECT_S * 1000)),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            # Two channels to one address would share a connection, and with it the old certificates.
            ("grpc.use_local_subchannel_pool", 1),
            # A proxy of the environment is for calls that leave the machine.
            ("grpc.enable_http_proxy", 0 if is_loopback(host) else 1),
        ]
        files = self._certificates
        if files is None:
            return aio.insecure_channel(self.address, options=options)
        credentials = grpc.ssl_channel_credentials(files.ca, files.key, files.cert)
        return aio.secure_channel(self.address, credentials, options=options)


def _read(settings: Settings) -> Certificates | None:
    if settings.permission_tls_ca is None:
        return None
    cert, key = settings.permission_tls_cert, settings.permission_tls_key
    names = environment_name("permission_tls_cert"), environment_name("permission_tls_key")
    try:
        ca = read_authorities(settings.permission_tls_ca, environment_name("permission_tls_ca"))
        if cert is None or key is None:
            return Certificates(ca)
        chain, private, _ = read_pair(cert, key, names)
    except ValueError as error:
        raise SettingsError([f"{error}."]) from error
    return Certificates(ca, chain, private)
