"""The local socket on which children of this server's media workers fetch pushed frames."""

import asyncio
import shutil
import struct
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from track_server.publishing.push.connection import read_message
from track_server.pushwire import Kind

log = structlog.get_logger(__name__)

_HELLO_S: Final = 5.0
_NAME: Final = "push.sock"
_LONGEST_PATH: Final = 100
"""Bytes; `sun_path` of Linux's and macOS' socket addresses holds 108 and 104."""
_SHORT_FOLDER: Final = "/tmp"
"""Where the usual place for temporary files has a long name."""

Serve = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class PushSocket:
    """Listens while the context lasts, in a folder of its own that no other user may enter.

    ``serve`` gets the ticket of each that comes, and ends it by returning.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._directory = await asyncio.to_thread(_folder)
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def path(self) -> str:
        """Where it is."""
        assert self._directory is not None
        return str(self._directory / _NAME)

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
        if self._directory is not None:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with asyncio.timeout(_HELLO_S):
                kind, _, payload = await read_message(reader)
            if kind == Kind.HELLO:
                await self._serve(payload.decode("ascii"), reader, writer)
        except (OSError, TimeoutError, UnicodeDecodeError, struct.error, asyncio.IncompleteReadError) as error:
            log.warning("push_connection_broke", cause=repr(error))
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


def _folder() -> Path:
    """A new folder for the socket; `mkdtemp` makes it with mode 0700."""
    usual = tempfile.gettempdir()
    # What mkdtemp adds is shorter than this.
    room = len(f"/track-push-{'x' * 16}/{_NAME}")
    fits = len(usual.encode()) + room <= _LONGEST_PATH
    return Path(tempfile.mkdtemp(prefix="track-push-", dir=usual if fits else _SHORT_FOLDER))
