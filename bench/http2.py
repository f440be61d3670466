"""A gRPC client that costs next to nothing, so that the server is what limits a measurement.

It speaks just enough HTTP/2 to keep calls going and to count what comes back; a Python client of gRPC's own costs as
much as the server that it would measure.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Final, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_FRAME_HEADER: Final = 9
_MESSAGE_HEADER: Final = 5
MAX_WINDOW: Final = 2**31 - 1
# Given back to the server when so much was read; it may have this much and more on the way.
_REFILL: Final = 2**28


class CallFailedError(Exception):
    """A call did not end with status OK, or the connection broke."""


class Connection(asyncio.Protocol):
    """One connection to a gRPC server, ``connect``ed. Either `calls` or `streams` is used, once at a time."""

    def __init__(self, path: str, tokens: Sequence[str], request: bytes, window: int = MAX_WINDOW) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "bench"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        same = b"".join(_literal(name, value) for name, value in headers)
        self._headers = itertools.cycle([same + _literal("authorization", f"Bearer {token}") for token in tokens])
        self._body = b"\0" + len(request).to_bytes(4, "big") + request
        self._window = window
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._next_stream = 1
        self._unreturned = 0
        self._until = 0.0
        self._begun: dict[int, float] = {}
        self._parts: dict[int, bytearray] = {}
        self.messages = 0
        """Messages received."""
        self.bytes = 0
        """Bytes of them."""
        self.first = b""
        """The first message."""
        self.reached: set[int] = set()
        """The streams that had a message."""
        self.latencies_s: list[float] = []
        """Of the calls that ended."""
        self._idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(
        cls, address: str, path: str, tokens: Sequence[str], request: bytes, window: int = MAX_WINDOW
    ) -> Self:
        """Connects to `host:port`; every call will be the same, but for the tokens, which are sent in turn.

        ``window``: bytes that each call takes, and then no more, as if nobody read it.
        """
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(path, tokens, request, window), host, int(port))
        return connection

    async def calls(self, concurrency: int, seconds: float) -> None:
        """Keeps ``concurrency`` unary calls going for so long. Raises CallFailedError."""
        self._idle = asyncio.get_running_loop().create_future()
        self._until = time.perf_counter() + seconds
        self.messages = self.bytes = 0
        self.latencies_s = []
        self._write(b"".join(self._call() for _ in range(concurrency)))
        await self._idle

    async def streams(self, count: int) -> None:
        """Begins ``count`` calls that stream; returns at once."""
        self._write(b"".join(self._call() for _ in range(count)))

    def check(self) -> None:
        """Raises CallFailedError where the connection or a call has failed."""
        if self._idle.done():
            self._idle.result()
            raise CallFailedError("a stream ended")

    def close(self) -> None:
        """Closes the connection; streams end with it."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        # No header table, so that trailers are literal; windows as large as they may be.
        settings = b"".join(
            number.to_bytes(2, "big") + value.to_bytes(4, "big")
            for number, value in ((0x1, 0), (0x4, self._window), (0x5, 1024 * 1024))
        )
        self._write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + self._refill(0, MAX_WINDOW - 65_535))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._fail("the connection was closed")

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        buffer = self._buffer
        buffer += data
        position, end = 0, len(buffer)
        answer: list[bytes] = []
        while end - position >= _FRAME_HEADER:
            size = int.from_bytes(buffer[position : position + 3], "big")
            stop = position + _FRAME_HEADER + size
            if stop > end:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            stream = int.from_bytes(buffer[position + 5 : position + 9], "big")
            if kind == _DATA:
                self._unreturned += size
                self._take(stream, buffer[position + _FRAME_HEADER : stop])
            else:
                payload = bytes(buffer[position + _FRAME_HEADER : stop])
                answer.append(self._control(kind, flags, stream, payload))
            position = stop
        del buffer[:position]
        if self._unreturned >= _REFILL:
            answer.append(self._refill(0, self._unreturned))
            self._unreturned = 0
        if answer:
            self._write(b"".join(answer))

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """What to send in answer to a frame that is no DATA."""
        if kind == _HEADERS and flags & _END_STREAM:
            return self._ended(stream, payload)
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind in (_RST_STREAM, _GOAWAY):
            self._fail(f"the server sent frame type {kind}: {payload!r}")
        return b""

    def _ended(self, stream: int, trailers: bytes) -> bytes:
        if b"grpc-status\x010" not in trailers:
            self._fail(f"a call ended with {trailers!r}")
            return b""
        now = time.perf_counter()
        self.latencies_s.append(now - self._begun.pop(stream))
        self._parts.pop(stream, None)
        if now < self._until:
            return self._call()
        if not self._begun and not self._idle.done():
            self._idle.set_result(None)
        return b""

    def _take(self, stream: int, data: bytearray) -> None:
        """Counts the messages in ``data``, which may begin and end within one."""
        rest = self._parts.get(stream)
        if rest:
            rest += data
            data = rest
        position, end = 0, len(data)
        while end - position >= _MESSAGE_HEADER:
            stop = position + _MESSAGE_HEADER + int.from_bytes(data[position + 1 : position + 5], "big")
            if stop > end:
                break
            self.reached.add(stream)
            if not self.first:
                self.first = bytes(data[position + _MESSAGE_HEADER : stop])
            self.messages += 1
            self.bytes += stop - position - _MESSAGE_HEADER
            position = stop
        if position < end:
            self._parts[stream] = data[position:]
        elif rest:
            del self._parts[stream]

    def _call(self) -> bytes:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._begun[stream] = time.perf_counter()
        return _frame(_HEADERS, _END_HEADERS, stream, next(self._headers)) + _frame(
            _DATA, _END_STREAM, stream, self._body
        )

    def _refill(self, stream: int, by: int) -> bytes:
        return _frame(_WINDOW_UPDATE, 0, stream, by.to_bytes(4, "big"))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _fail(self, text: str) -> None:
        if not self._idle.done():
            self._idle.set_exception(CallFailedError(text))
            self._idle.exception()  # it need not be waited for


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    """A header field that is not indexed (RFC 7541, 6.2.2), without Huffman coding."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) < 127:
        return bytes((len(raw),)) + raw
    rest = len(raw) - 127
    prefix = bytearray((127,))
    while rest >= 128:
        prefix.append(rest % 128 + 128)
        rest //= 128
    prefix.append(rest)
    return bytes(prefix) + raw
