"""A proxy before LiveKit that keeps one participant waiting: its join is neither let through nor refused."""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import jwt

from tests.livekit_process import LiveKitProcess
from track_server.lifetime import Tasks

_CHUNK: Final = 64 * 1024


class HoldingProxy:
    """Passes everything on to ``livekit``, before `let_in` without the signalling of ``identity``.

    `async with` opens and closes it.
    """

    def __init__(self, livekit: LiveKitProcess, identity: str) -> None:
        self._upstream = urlsplit(livekit.url)
        self._identity = identity
        self._server: asyncio.Server | None = None
        self._connections = Tasks()
        self.held = asyncio.Event()
        """Set once the participant wants to join."""
        self._open = False
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._connections.aclose()

    def let_in(self) -> None:
        """Passes on what it tries from now on."""
        self._open = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.spawn(self._handle(reader, writer), name="proxied-connection")

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not self._open and _joins_as(head.decode()) == self._identity:
            self.held.set()
            # Until it gives up.
            await reader.read()
            return
        upstream_reader, upstream = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        upstream.write(head)
        ways = {asyncio.create_task(_pass_on(reader, upstream)), asyncio.create_task(_pass_on(upstream_reader, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            upstream.close()


def _joins_as(head: str) -> str:
    """Whose signalling begins with that head of a request; "" where it is something else."""
    target = urlsplit(head.split(" ", 2)[1])
    if not target.path.startswith("/rtc"):
        return ""
    tokens = parse_qs(target.query).get("access_token", [])
    tokens += [line.split()[-1] for line in head.split("\r\n") if line.lower().startswith("authorization:")]
    claims = jwt.decode(tokens[0], options={"verify_signature": False}) if tokens else {}
    return str(claims.get("sub", ""))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
