"""The local socket on which children of this server's media workers fetch what is pushed, and bring what is pulled."""

import asyncio
import secrets
import struct
import tempfile
from collections.abc import Awaitable, Callable
from typing import Final, Self

import structlog

from track_server.lifetime import Closing
from track_server.localsocket.folder import PREFIX, SocketFolder
from track_server.localwire import HELLO, read_message

log = structlog.get_logger(__name__)

_HELLO_S: Final = 5.0
_LONGEST_TICKET: Final = 128
_NAME: Final = "media.sock"
_READ_BYTES: Final = 1024 * 1024
"""What asyncio reads ahead of a connection, at most twice: a picture of some megabytes takes few turns of the loop."""
_LONGEST_PATH: Final = 100
"""Bytes; `sun_path` of Linux's and macOS' socket addresses holds 108 and 104."""
_SHORT_FOLDER: Final = "/tmp"
"""Where the usual place for temporary files has a long name."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves a connection, and ends it by returning."""


class LocalSocket(Closing):
    """Listens while the context lasts, in a folder of its own that no other user may enter.

    Who comes must have a ticket, and is served as that says.
    """

    def __init__(self) -> None:
        self._serve: dict[str, Serve] = {}
        self._folder: SocketFolder | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._folder = await asyncio.to_thread(SocketFolder, _base())
        self._server = await asyncio.start_unix_server(self._accept, self.path, limit=_READ_BYTES)
        return self

    @property
    def path(self) -> str:
        """Where it is."""
        assert self._folder is not None
        return str(self._folder.path / _NAME)

    def issue(self, serve: Serve) -> str:
        """A new ticket, with which any number of connections are served until it is withdrawn."""
        ticket = secrets.token_urlsafe(24)
        self._serve[ticket] = serve
        return ticket

    def withdraw(self, ticket: str) -> None:
        """Serves nobody with it any more. Connections that stand go on. May be called twice."""
        self._serve.pop(ticket, None)

    async def aclose(self) -> None:
        """Ends all connections. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.remove)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with asyncio.timeout(_HELLO_S):
                kind, _, payload = await read_message(reader, _LONGEST_TICKET)
            serve = self._serve.get(payload.decode("ascii")) if kind == HELLO else None
            if serve is None:
                log.info("media_ticket_unknown")
            else:
                await serve(reader, writer)
        except (OSError, TimeoutError, UnicodeDecodeError, struct.error, asyncio.IncompleteReadError) as error:
            log.warning("media_connection_broke", cause=repr(error))
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


def _base() -> str:
    """Where the socket's folder goes."""
    usual = tempfile.gettempdir()
    # What mkdtemp adds is shorter than this.
    room = len(f"/{PREFIX}{'x' * 16}/{_NAME}")
    return usual if len(usual.encode()) + room <= _LONGEST_PATH else _SHORT_FOLDER
