"""Where LiveKit's webhooks come in: an HTTP server that believes nothing that is not signed, and answers at once."""

import asyncio
import logging
import time
from typing import Any, Final, Self

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError
from prometheus_client import CollectorRegistry, Counter, Gauge

from track_server.config import SettingsError, split_address
from track_server.errors import InvalidField, Unauthenticated
from track_server.lifetime import Closing
from track_server.livekit.webhook import WebhookReader
from track_server.rooms.hints import Hints

log = structlog.get_logger(__name__)

PATH: Final = "/livekit/webhook"
"""Where LiveKit's configuration points to."""
# Names, metadata (512 KiB of the room, as much of a participant) and attributes (64 KiB), escaped as JSON.
MAX_BODY_BYTES: Final = 4 << 20
# A request may take so long in all, and a connection has one: LiveKit's is a few milliseconds.
_CONNECTION_S: Final = 10.0
_BODY_S: Final = 5.0
_CONNECTIONS: Final = 256
_SHUTDOWN_S: Final = 1.0
_NAME: Final = "track-server"
# The server's own would have a traceback of whatever strangers send that is no HTTP.
_SILENT: Final = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001  nobody is to find it by a name
# What LiveKit sends, for the metric: names of others are not kept.
_EVENTS: Final = frozenset(
    {
        "room_started",
        "room_finished",
        "participant_joined",
        "participant_left",
        "participant_connection_aborted",
        "track_published",
        "track_unpublished",
        "egress_started",
        "egress_updated",
        "egress_ended",
        "ingress_started",
        "ingress_ended",
    }
)


class Endpoint(Closing):
    """The server, `async with`. ``listen``: host:port, or empty for none. ``variable``: the setting's name.

    Entering raises SettingsError where the address cannot be bound.
    """

    def __init__(
        self,
        listen: str,
        variable: str,
        reader: WebhookReader,
        hints: Hints,
        registry: CollectorRegistry,
        *,
        connection_s: float = _CONNECTION_S,
    ) -> None:
        self._connection_s = connection_s
        self._listen = listen
        self._variable = variable
        self._reader = reader
        self._hints = hints
        self._counts = _Counts(registry)
        self._server: asyncio.Server | None = None
        self._http: web.Server | None = None
        self._connections: set[_Connection] = set()
        self.address = ""
        """As really bound; empty where there is none."""

    async def __aenter__(self) -> Self:
        if not self._listen:
            return self
        host, port = split_address(self._listen)
        # With its connection ends what is left to be done for it: the rest of a body is read and thrown away.
        http = self._http = web.Server(self._handle, handler_cancellation=True)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(http, self._connections, self._connection_s), host, port
            )
        except OSError as error:
            raise SettingsError([f"{self._variable}: {self._listen} cannot be bound; is it in use?"]) from error
        bound = self._server.sockets[0].getsockname()[1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        return self

    async def aclose(self) -> None:
        """Takes nothing more. May be called twice."""
        server, self._server = self._server, None
        if server is not None and self._http is not None:
            server.close()
            await self._http.shutdown(_SHUTDOWN_S)
            for connection in list(self._connections):
                connection.force_close()
            await server.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        event, outcome, status = await self._received(request)
        self._counts.received(event, outcome)
        # A stranger is not told which keys there are, nor what this server is made of.
        said = "wrong_signature" if outcome == "unknown_key" else outcome
        answer = web.Response(status=status, text="" if status == 200 else f"{said}\n", headers={"Server": _NAME})
        if status == 405:
            answer.headers["Allow"] = "POST"
        # One request a connection, so that its time is bounded.
        answer.force_close()
        return answer

    async def _received(self, request: web.BaseRequest) -> tuple[str, str, int]:
        """The webhook's event, what became of it, and the status to answer with."""
        if request.path != PATH:
            return "", "wrong_path", 404
        if request.method != "POST":
            return "", "wrong_method", 405
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return "", "too_large", 413
        try:
            # Before the body: a stranger does not get it read.
            signature = self._reader.signature(request.headers.get("Authorization"))
            async with asyncio.timeout(_BODY_S):
                body = await _read(request)
            if body is None:
                return "", "too_large", 413
            event = self._reader.event(body, signature)
        except Unauthenticated as error:
            return "", error.cause, 401
        except TimeoutError:
            return "", "too_slow", 408
        except InvalidField:
            return "", "malformed", 400
        except (ConnectionError, web.RequestPayloadError, HttpProcessingError):
            return "", "broken", 400
        name = event.event if event.event in _EVENTS else "other"
        new = self._hints.take(event)
        self._counts.lost(event.num_dropped)
        return name, "taken" if new else "doubled", 200


async def _read(request: web.BaseRequest) -> bytes | None:
    """The body; None where it is larger than may be."""
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


class _Connection(web.RequestHandler):
    """A connection of the HTTP server's: one of so many at most, and for so long at most."""

    def __init__(self, server: web.Server, others: "set[_Connection]", seconds: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # there is none then
            logger=_SILENT,
            # Bodies are hashed as they come.
            auto_decompress=False,
            lingering_time=_BODY_S,
        )
        self._others = others
        self._seconds = seconds
        self._end: asyncio.TimerHandle | None = None

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        """See aiohttp: the answer to what is no HTTP."""
        answer = super().handle_error(*args, **kwargs)
        answer.headers["Server"] = _NAME
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        if len(self._others) >= _CONNECTIONS and isinstance(transport, asyncio.Transport):
            transport.abort()
            return
        self._others.add(self)
        self._end = asyncio.get_running_loop().call_later(self._seconds, self.force_close)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        if self._end is not None:
            self._end.cancel()
            self._others.discard(self)
            super().connection_lost(exc)


class _Counts:
    """What came, for the metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._received = Counter(
            "track_webhooks_received",
            "Requests to the endpoint of LiveKit's webhooks.",
            ("event", "outcome"),
            registry=registry,
        )
        self._lost = Counter(
            "track_webhooks_lost", "Webhooks that LiveKit says it dropped before it could send them.", registry=registry
        )
        self._last = Gauge(
            "track_webhooks_last_time_seconds",
            "When the newest webhook of LiveKit's was taken, in seconds since 1970; 0: none was.",
            registry=registry,
        )

    def received(self, event: str, outcome: str) -> None:
        """A request, and what became of it."""
        self._received.labels(event, outcome).inc()
        if event:
            self._last.set(time.time())

    def lost(self, dropped: int) -> None:
        """So many were dropped by LiveKit."""
        if dropped > 0:
            self._lost.inc(dropped)
