"""One session of a media worker that brings a track, seen from the server."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import structlog
from google.protobuf import json_format

from track.media.v1.media_service_pb2 import PullDesired, PullSessionStats, PullSink, SessionTicket
from track.v1.pull_pb2 import PullEnded
from track_server.errors import WorkerUnavailable
from track_server.lifetime import Closing
from track_server.livekit.tokens import TokenMint
from track_server.localsocket.socket import LocalSocket
from track_server.localwire import Messages, header
from track_server.publishing.placement import OfferedSession, OwnWorkers
from track_server.pullwire import WINDOW_BYTES, Kind

log = structlog.get_logger(__name__)

_ATTACH_S: Final = 10.0
"""A worker that must start a child first takes two or three seconds, and more on a busy machine."""
_STARTING_S: Final = 30.0
_ASK_AGAIN_S: Final = 0.1
"""A worker that is being started takes offers after one to three seconds, and much later on a busy machine."""
_RETRY_S: Final = 2.0
_LEAST_CREDIT: Final = WINDOW_BYTES // 16

Message = tuple[int, int, bytes]
"""Kind, number, payload: see pullwire."""


class Carrier(Closing):
    """A session, from its offer to its end, `async with`: it leaves the room when the block is left.

    ``on_stats``: told of its statistics as they come, however slowly the caller reads.
    """

    def __init__(
        self,
        socket: LocalSocket,
        own: OwnWorkers,
        tokens: TokenMint,
        room: str,
        identity: str,
        on_stats: Callable[[PullSessionStats], None],
    ) -> None:
        self._socket = socket
        self._own = own
        self._tokens = tokens
        self._room = room
        self._identity = identity
        self._connected: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._inbox = _Inbox(on_stats)
        self._closed = asyncio.Event()
        self._ticket = socket.issue(self._serve)
        self._offered: OfferedSession | None = None
        self._taken = 0

    async def begin(self, desired: PullDesired) -> None:
        """Returns once a worker's child is there, and was told what to pull.

        Raises WorkerUnavailable where no worker of this server takes it, LimitExceeded where they are full.
        """
        ticket = SessionTicket(
            session_id=f"PULL_{secrets.token_hex(8)}",
            generation=1,
            participant_identity=self._identity,
            pull=PullSink(socket_path=self._socket.path, ticket=self._ticket),
        )
        text = json_format.MessageToJson(ticket, indent=None)
        token = self._tokens.puller(self._room, self._identity)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STARTING_S):
                self._offered = await self._own.offer(text, token, self._over)
                while self._offered is None and self._own.expected:
                    await asyncio.sleep(_ASK_AGAIN_S)
                    self._offered = await self._own.offer(text, token, self._over)
        if self._offered is None:
            raise WorkerUnavailable("no media worker of this server is there", retry_delay_s=_RETRY_S)
        try:
            async with asyncio.timeout(_ATTACH_S):
                await asyncio.shield(self._connected)
        except TimeoutError:
            raise WorkerUnavailable("the media worker did not begin the session", retry_delay_s=_RETRY_S) from None
        self.want(desired)

    def want(self, desired: PullDesired) -> None:
        """Something else is to be pulled."""
        self._write(Kind.WANT, desired.SerializeToString())

    def measure(self, interval_s: float | None) -> None:
        """Statistics are wanted at that interval in seconds, or none."""
        self._write(Kind.MEASURE, number=round((interval_s or 0.0) * 1e6))

    def finish(self, ended: PullEnded) -> None:
        """What is left is to be sent, and then it is over."""
        self._write(Kind.FINISH, ended.SerializeToString())

    def taken(self, size: int) -> None:
        """The caller has taken so many bytes."""
        self._taken += size
        if self._taken >= _LEAST_CREDIT:
            self._write(Kind.CREDIT, number=self._taken)
            self._taken = 0

    async def next(self) -> Message | None:
        """What the child says next; None once it is gone."""
        return await self._inbox.next()

    def break_off(self) -> None:
        """Ends it at once: its participant leaves. May be called twice."""
        self._closed.set()
        self._socket.withdraw(self._ticket)
        if self._connected.done() and not self._connected.cancelled():
            self._connected.result().abort()
        self._connected.cancel()
        if self._offered is not None:
            self._offered.withdraw()

    async def aclose(self) -> None:
        """See ``break_off``."""
        self.break_off()

    def _over(self) -> None:
        """The worker's session is over: where it has a connection, that tells."""
        if not self._connected.done():
            self._connected.set_exception(
                WorkerUnavailable("the media worker did not begin the session", retry_delay_s=_RETRY_S)
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connected.done():
            return
        # A Unix socket goes both ways.
        transport = cast("asyncio.Transport", writer.transport)
        # A child says nothing before it was told what to pull: the reader has nothing left.
        self._inbox.connection_made(transport)
        transport.set_protocol(self._inbox)
        self._connected.set_result(transport)
        await self._closed.wait()

    def _write(self, kind: Kind, payload: bytes = b"", number: int = 0) -> None:
        """Nothing where the child is gone, which ``next`` tells."""
        if self._connected.done() and not self._connected.cancelled() and self._connected.exception() is None:
            transport = self._connected.result()
            if not transport.is_closing():
                transport.write(header(kind, len(payload), number) + payload)


class _Inbox(Messages):
    """What has come, and was not taken yet: bounded by the credit that the child has."""

    def __init__(self, on_stats: Callable[[PullSessionStats], None]) -> None:
        super().__init__()
        self._on_stats = on_stats
        self._waiting: deque[Message] = deque()
        self._place = bytearray()
        self._lost = False
        self._came = asyncio.Event()

    async def next(self) -> Message | None:
        """The next one; None once the connection is gone, and all was taken."""
        while not self._waiting:
            if self._lost:
                return None
            self._came.clear()
            await self._came.wait()
        return self._waiting.popleft()

    def room_for(self, length: int) -> bytearray:
        """See Messages: always the same place, which stays in the processor's cache."""
        if len(self._place) < length:
            self._place = bytearray(length)
        return self._place

    def received(self, kind: int, number: int, payload: bytearray, length: int) -> None:
        """See Messages."""
        if kind == Kind.STATS:
            self._on_stats(PullSessionStats.FromString(bytes(memoryview(payload)[:length])))
            return
        self._waiting.append((kind, number, bytes(memoryview(payload)[:length])))
        self._came.set()

    def connection_lost(self, error: Exception | None) -> None:
        """See Protocol."""
        self._lost = True
        self._came.set()
