"""Sends events to URLs: one POST a call, signed as LiveKit signs its webhooks, to addresses that are allowed alone."""

import asyncio
import base64
import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from track_server.errors import DestinationNotAllowed, TrackError, WebhookNotTaken
from track_server.lifetime import Closing
from track_server.webhooks.targets import Targets

CONTENT_TYPE: Final = "application/webhook+json"
"""As LiveKit's, so that nobody parses a body before its signature is verified."""

# As LiveKit's own webhooks: so long may a request be on its way, and clocks differ.
_TOKEN_S: Final = 300
# Connections at the same time, and kept open for the next event: shorter than servers do, which would close them under
# the next request.
_CONNECTIONS: Final = 256
_KEPT_S: Final = 2.0
# Names that are looked up at the same time, on threads of their own: a name server that is away holds up nobody else.
_LOOKUPS: Final = 16

Sign = Callable[[Mapping[str, Any]], str]


class AddressRefused(OSError):
    """No address behind the name may be connected to."""


class Sender(Closing):
    """`async with`. ``sign``: makes a token of claims, under the API key that this server acts with."""

    def __init__(self, targets: Targets, sign: Sign, *, timeout_s: float, user_agent: str) -> None:
        self._targets = targets
        self._sign = sign
        self._timeout_s = timeout_s
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=_CONNECTIONS,
            keepalive_timeout=_KEPT_S,
            use_dns_cache=False,
            resolver=_Resolver(self._targets),
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            auto_decompress=False,
            headers={"User-Agent": self._user_agent},
        )
        return self

    async def aclose(self) -> None:
        """Closes the connections. May be called twice."""
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, body: bytes) -> None:
        """Returns once the receiver has taken it. Raises WebhookNotTaken, DestinationNotAllowed, InvalidField.

        Of the answer nothing but the status is read, and redirects are not followed.
        """
        if self._session is None:
            raise RuntimeError("Sender is used outside its `async with`")
        target = self._targets.checked(url)
        headers = {"Authorization": self._token(body), "Content-Type": CONTENT_TYPE}
        try:
            async with self._session.post(target, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error) from error
        if not 200 <= status < 300:
            raise _not_taken("status", f"the receiver answered with status {status}", status=str(status))

    def _token(self, body: bytes) -> str:
        now = int(time.time())
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return self._sign({"nbf": now, "exp": now + _TOKEN_S, "sha256": digest})

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """The socket of a connection to that address and no other; the last look before it is made."""
        family, kind, protocol, _, address = info
        if family not in (socket.AF_INET, socket.AF_INET6) or not self._targets.may_connect(str(address[0])):
            raise AddressRefused("the address is not allowed")
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Looks names up, and leaves out the addresses that may not be connected to."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._threads = ThreadPoolExecutor(_LOOKUPS, "webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See AbstractResolver. Raises AddressRefused, OSError."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        allowed = [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=_NUMERIC)
            for kind, _, protocol, _, address in found
            if self._targets.may_connect(str(address[0]))
        ]
        if not allowed:
            raise AddressRefused("no address of the name is allowed")
        return allowed

    async def close(self) -> None:
        """See AbstractResolver."""
        self._threads.shutdown(wait=False, cancel_futures=True)


_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _failure(error: BaseException) -> TrackError:
    """What went wrong, without what the receiver or the network says."""
    beneath = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(beneath, AddressRefused):
        return DestinationNotAllowed("the host leads to an address that must not be connected to", field="url")
    if isinstance(error, TimeoutError):
        return _not_taken("timeout", "the receiver did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _not_taken("name", "the receiver's name was not found")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return _not_taken("certificate", "the receiver's TLS certificate was not accepted, or it speaks no TLS")
    if isinstance(error, aiohttp.ClientConnectorError | ConnectionError):
        return _not_taken("unreachable", "the receiver cannot be reached")
    return _not_taken("protocol", "the receiver did not answer as an HTTP server does")


def _not_taken(cause: str, message: str, **facts: str) -> WebhookNotTaken:
    return WebhookNotTaken(message, metadata={"cause": cause, **facts})
