"""A session's stream to the server that owns it: kept up, and begun anew with a hello where it broke."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
import jwt
import structlog

from track.media.v1.media_service_pb2 import AttachRequest, AttachResponse, SessionEnded, SessionHello
from track.media.v1.media_service_pb2_grpc import MediaServiceStub

if TYPE_CHECKING:
    from track.media.v1.media_service_pb2_grpc import MediaServiceAsyncStub

log = structlog.get_logger(__name__)

_FIRST_ANSWER_S: Final = 10.0
_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 2.0
_TOKEN_LIFE_S: Final = 600
_STATS_BACKLOG: Final = 8
"""With so much unsent, statistics are left out: they are worth nothing when late."""
_CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A server that vanished without a word is noticed by a ping. The server must allow them so often.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it a server that hangs, but whose connection stands, is noticed a minute later (grpcio 1.85.1).
    ("grpc.http2.ping_timeout_ms", 10_000),
)


class SupersededError(Exception):
    """The server says that the session has moved on to a higher generation."""


class ServerAwayError(Exception):
    """The server has been away for longer than a session waits."""


class Channels:
    """One channel a server address, for all sessions of a process."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    def stub(self, address: str) -> "MediaServiceAsyncStub":
        """The MediaService at `address` (`host:port`)."""
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        return MediaServiceStub(self._channels[address])

    async def aclose(self) -> None:
        """Close them all. May be called twice."""
        while self._channels:
            await self._channels.popitem()[1].close()


class Attachment:
    """The stream of one session. `run` keeps it up; everything else may be called at any time."""

    def __init__(
        self,
        stub: "MediaServiceAsyncStub",
        api_key: str,
        api_secret: str,
        hello: Callable[[], SessionHello],
        command: Callable[[AttachResponse], None],
        orphan_timeout_s: float,
    ) -> None:
        """`hello` tells the state of the moment; `command` is called with what the server says."""
        self._stub = stub
        self._api_key, self._api_secret = api_key, api_secret
        self._hello = hello
        self._command = command
        self._orphan_timeout_s = orphan_timeout_s
        self._outbox: asyncio.Queue[AttachRequest | None] = asyncio.Queue()
        self._attached = False
        self._ended: SessionEnded | None = None

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Begin the stream with this key from now on."""
        self._api_key, self._api_secret = api_key, api_secret

    def send(self, request: AttachRequest) -> None:
        """Report something. Lost where the server is away: the next hello tells the state."""
        self._outbox.put_nowait(request)

    def send_stats(self, request: AttachRequest) -> None:
        """Report statistics; left out where the server is away or slow."""
        if self._attached and self._outbox.qsize() < _STATS_BACKLOG:
            self._outbox.put_nowait(request)

    def end(self, ended: SessionEnded) -> None:
        """Say the last word; `run` returns when the server has taken it."""
        self._ended = ended
        self._close_outbox(ended)

    def _close_outbox(self, ended: SessionEnded) -> None:
        self._outbox.put_nowait(AttachRequest(ended=ended))
        self._outbox.put_nowait(None)

    async def run(self) -> None:
        """Keep the stream up until the end. Raises SupersededError, ServerAwayError."""
        lost_at, failures = time.monotonic(), 0
        while True:
            try:
                await self._attach()
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
                if code is grpc.StatusCode.FAILED_PRECONDITION:
                    raise SupersededError from error
                log.info("media_server_lost", code=code.name if code else "TIMEOUT", was_attached=self._attached)
            if self._attached and self._ended is not None:
                return
            if self._attached:
                self._attached, lost_at, failures = False, time.monotonic(), 0
            elif time.monotonic() - lost_at > self._orphan_timeout_s:
                raise ServerAwayError
            failures += 1
            delay = min(_LAST_DELAY_S, _FIRST_DELAY_S * float(2 ** min(failures, 10)))
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _attach(self) -> None:
        # What was not sent before is in the hello.
        self._outbox = asyncio.Queue()
        hello = self._hello()
        self._outbox.put_nowait(AttachRequest(hello=hello))
        if self._ended is not None:
            self._close_outbox(self._ended)
        token = session_token(self._api_key, self._api_secret, hello.session_id)
        call = self._stub.Attach(metadata=(("authorization", f"Bearer {token}"),))
        writer = asyncio.create_task(self._write(call, self._outbox), name="attachment-writer")
        try:
            async with asyncio.timeout(_FIRST_ANSWER_S):
                response = await call.read()
            self._attached = True
            while isinstance(response, AttachResponse):
                self._command(response)
                response = await call.read()
        finally:
            writer.cancel()
            await asyncio.wait([writer])
            call.cancel()

    async def _write(
        self,
        call: "grpc.aio.StreamStreamCall[AttachRequest, AttachResponse]",
        outbox: "asyncio.Queue[AttachRequest | None]",
    ) -> None:
        # A stream that broke is the reader's to tell.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while (request := await outbox.get()) is not None:
                await call.write(request)
            await call.done_writing()


def session_token(api_key: str, api_secret: str, session_id: str) -> str:
    """The token with which a session attaches.

    A LiveKit access token, signed by hand: importing livekit.api for it would take a third of a child's start.
    """
    now = int(time.time())
    claims = {"iss": api_key, "sub": session_id, "nbf": now, "exp": now + _TOKEN_LIFE_S}
    return jwt.encode(claims | {"video": {"agent": True}}, api_secret, algorithm="HS256")
