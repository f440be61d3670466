"""One LiveKit signalling session: a WebSocket, and the idle peer connection without which nobody may stay in a room."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Self

import aiohttp
import structlog
from livekit.protocol import models, rtc

from track_server.lifetime import Closing
from track_server.livekit.datachannel import OnMessage
from track_server.livekit.disconnect import (
    SignalClosed,
    SignalEnd,
    SignalError,
    SignalRefused,
    SignalUnreachable,
    broken,
    closed_by_us,
    sent_away,
)
from track_server.livekit.joining import CLOSE_TIMEOUT_S, open_socket, read_join, signal_url
from track_server.livekit.transport import SubscriberTransport, TransportFailed

__all__ = ["SignalClosed", "SignalConnection", "SignalError", "SignalRefused", "SignalUnreachable", "TransportFailed"]

log = structlog.get_logger(__name__)

_JOIN_TIMEOUT_S: Final = 10.0
_MAX_WAITING_UPDATES: Final = 10_000
# Used where a server names none; current ones say 5 and 15.
_PING_INTERVAL_S: Final = 5.0
_PING_TIMEOUT_S: Final = 15.0


class SignalConnection(Closing):
    """One signalling session, ``async with``: joins on entry, leaves on exit.

    ``url``: LiveKit's, ws(s) or http(s). ``token``: a LiveKit access token; LiveKit renews it while the session lasts,
    and ``token`` always holds the newest, for the next one. ``transport_timeout_s``: how long the peer connection may
    take. ``http``: a session to share between many connections; without it there is one of our own. ``on_data``: told
    of each reliable data message that reaches this participant; without it LiveKit sends none.
    Entry raises SignalUnreachable, SignalRefused, or SignalClosed if LiveKit sends us away at once.
    """

    join: rtc.JoinResponse
    """LiveKit's answer to the join: room, ourselves, the other participants, server version. Set on entry."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport_timeout_s: float = 10.0,
        http: aiohttp.ClientSession | None = None,
        on_data: OnMessage | None = None,
    ) -> None:
        self.token = token
        self.rtt_ms: int | None = None
        """Round trip of the last ping over the WebSocket, in ms; None before the first."""
        self._url = signal_url(url)
        self._transport_timeout_s = transport_timeout_s
        self._on_data = on_data
        self._shared_http = http
        self._own_http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._transport: SubscriberTransport | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._updates: deque[rtc.SignalResponse] = deque()
        self._arrived = asyncio.Event()
        self._end: SignalEnd | None = None
        self._heard_at = 0.0
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                http = self._shared_http
                if http is None:
                    http = self._own_http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
                self._socket = await open_socket(http, self._url, self.token)
                self.join = await read_join(self._socket)
        except TimeoutError as error:
            await self.aclose()
            raise SignalUnreachable(f"no JoinResponse within {_JOIN_TIMEOUT_S:g} s") from error
        except BaseException:
            await self.aclose()
            raise
        self._transport = SubscriberTransport(
            self.join.ice_servers, self._send_answer, timeout_s=self._transport_timeout_s, on_data=self._on_data
        )
        self._transport.start()
        self._heard_at = time.monotonic()
        self._tasks = [
            asyncio.create_task(self._read(self._socket, self._transport), name="signal-read"),
            asyncio.create_task(self._ping(), name="signal-ping"),
        ]
        return self

    def __aiter__(self) -> AsyncIterator[rtc.SignalResponse]:
        return self.updates()

    async def updates(self) -> AsyncIterator[rtc.SignalResponse]:
        """Yield what LiveKit sends after the join, in order; ends by raising SignalClosed. For one reader.

        What belongs to the connection itself (offers, candidates, pongs, token, leave) is dealt with here and not
        yielded.
        """
        while True:
            while self._updates:
                yield self._updates.popleft()
            if self._end is not None:
                raise SignalClosed(self._end)
            self._arrived.clear()
            await self._arrived.wait()

    async def send(self, request: rtc.SignalRequest) -> None:
        """Send a request; what LiveKit makes of it shows in updates, if at all. Raises SignalClosed."""
        if self._socket is None:
            raise RuntimeError("the connection was not entered")
        if self._end is None:
            try:
                async with asyncio.timeout(self._ping_timeout_s):
                    await self._socket.send_bytes(request.SerializeToString())
            except TimeoutError:
                self._finish(broken(f"nothing could be sent for {self._ping_timeout_s:g} s"))
            except (ConnectionError, aiohttp.ClientError) as error:
                self._finish(broken(f"connection lost: {error}"))
        if self._end is not None:
            raise SignalClosed(self._end)

    async def _send_answer(self, request: rtc.SignalRequest) -> None:
        with contextlib.suppress(SignalClosed):
            await self.send(request)

    @property
    def transport_connected(self) -> bool:
        """Whether the peer connection is up now.

        Without it LiveKit ends the session: 15 s after it began to try, or lost it, with CONNECTION_TIMEOUT.
        """
        return self._transport is not None and self._transport.connected

    @property
    def data_behind_s(self) -> float:
        """For how many seconds more data has come than is read: messages are late."""
        return self._transport.behind_s if self._transport is not None else 0.0

    async def wait_transport(self) -> None:
        """Return once the peer connection is up; raises TransportFailed. Signalling works before and without it."""
        if self._transport is None:
            raise RuntimeError("the connection was not entered")
        await self._transport.wait_connected()

    async def aclose(self) -> None:
        """Leave the room and close everything."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="signal-close")
        await asyncio.shield(self._closing)

    @property
    def _ping_timeout_s(self) -> float:
        return self.join.ping_timeout or _PING_TIMEOUT_S

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, transport: SubscriberTransport) -> None:
        try:
            while self._end is None:
                message = await socket.receive()
                self._heard_at = time.monotonic()
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._take(rtc.SignalResponse.FromString(message.data), transport)
                elif message.type is not aiohttp.WSMsgType.TEXT:
                    self._finish(broken(f"connection closed, code {socket.close_code}"))
        except Exception as error:
            log.warning("signal_read_failed", exc_info=True)
            self._finish(broken(f"a message could not be read: {error}"))

    def _take(self, response: rtc.SignalResponse, transport: SubscriberTransport) -> None:
        match response.WhichOneof("message"):
            case "offer":
                transport.offer(response.offer)
            case "trickle":
                transport.trickle(response.trickle)
            case "pong_resp":
                self.rtt_ms = max(0, _now_ms() - response.pong_resp.last_ping_timestamp)
            case "refresh_token":
                self.token = response.refresh_token
            case "leave":
                self._finish(sent_away(response.leave))
            case "pong" | "answer" | None:
                pass
            case _ if len(self._updates) >= _MAX_WAITING_UPDATES:
                self._finish(broken(f"{_MAX_WAITING_UPDATES} updates were not read"))
            case _:
                self._updates.append(response)
                self._arrived.set()

    async def _ping(self) -> None:
        interval_s = self.join.ping_interval or _PING_INTERVAL_S
        while self._end is None:
            await asyncio.sleep(interval_s)
            silent_s = time.monotonic() - self._heard_at
            if silent_s > self._ping_timeout_s:
                self._finish(broken(f"LiveKit was silent for {silent_s:.0f} s"))
                return
            try:
                await self.send(rtc.SignalRequest(ping_req=rtc.Ping(timestamp=_now_ms(), rtt=self.rtt_ms or 0)))
            except SignalClosed:
                return

    def _finish(self, end: SignalEnd) -> None:
        if self._end is None:
            self._end = end
            self._arrived.set()

    async def _close(self) -> None:
        if self._end is None and self._tasks and self._socket is not None:
            leave = rtc.LeaveRequest(reason=models.CLIENT_INITIATED, action=rtc.LeaveRequest.DISCONNECT)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.send(rtc.SignalRequest(leave=leave))
            except (SignalClosed, TimeoutError):
                pass
        self._finish(closed_by_us())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            await self._transport.aclose()
        if self._socket is not None:
            await self._socket.close()
        if self._own_http is not None:
            await self._own_http.close()


def _now_ms() -> int:
    # LiveKit only echoes it.
    return time.monotonic_ns() // 1_000_000
