"""How a server and the children of its media workers talk over a local socket, whatever it is about.

A header of 13 bytes (kind, length of the payload, a number; big-endian), then the payload. The child speaks first:
HELLO, with the ticket that tells the server what it came for.
"""

import asyncio
import struct
from typing import Final, cast

HEADER: Final = struct.Struct(">BIq")
MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""Longest payload in bytes: the largest frame that the settings allow."""
HELLO: Final = 16
"""Kind of the first message, to the server. Payload: the ticket."""


def header(kind: int, length: int = 0, number: int = 0) -> bytes:
    """What stands before a payload of that length in bytes."""
    return HEADER.pack(kind, length, number)


async def read_message(reader: asyncio.StreamReader, longest: int) -> tuple[int, int, bytes]:
    """Kind, number and payload of the next message.

    Raises IncompleteReadError where there is none any more, struct.error where it is longer than ``longest`` bytes.
    """
    kind, length, number = HEADER.unpack(await reader.readexactly(HEADER.size))
    if length > longest:
        raise struct.error("the payload is too long")
    return kind, number, await reader.readexactly(length) if length else b""


class Messages(asyncio.BufferedProtocol):
    """Reads messages as they come: a payload of some megabytes is read into the place where it stays."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._head = bytearray(HEADER.size)
        self._kind, self._number, self._length = 0, 0, 0
        self._payload: bytearray | None = None
        """Of the message whose header is complete."""
        self._filled = 0

    def received(self, kind: int, number: int, payload: bytearray, length: int) -> None:
        """A message has come, whose payload is the first ``length`` bytes."""
        raise NotImplementedError

    def room_for(self, length: int) -> bytearray:
        """Where a payload goes: so many bytes, or more."""
        return bytearray(length)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol."""
        # uvloop's are transports by what they do, not by class.
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See BufferedProtocol."""
        if self._payload is None:
            return memoryview(self._head)[self._filled :]
        return memoryview(self._payload)[self._filled : self._length]

    def buffer_updated(self, nbytes: int) -> None:
        """See BufferedProtocol."""
        self._filled += nbytes
        if self._payload is None and self._filled == HEADER.size:
            self._kind, self._length, self._number = HEADER.unpack(self._head)
            if self._length > MAX_PAYLOAD:
                assert self.transport is not None
                self.transport.abort()
                return
            self._payload, self._filled = self.room_for(self._length), 0
        if self._payload is not None and self._filled == self._length:
            payload, self._payload, self._filled = self._payload, None, 0
            self.received(self._kind, self._number, payload, self._length)
