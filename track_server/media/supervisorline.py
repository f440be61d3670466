"""The line to the supervisor that started this worker: its standard input and output."""

import asyncio
import os
from collections.abc import Callable
from typing import Self

import structlog

from track_server.agent import LINE_LIMIT, Line, line_of, message_in
from track_server.lifetime import Closing, Tasks

log = structlog.get_logger(__name__)


class SupervisorLine(Closing):
    """Open for the span of the context. ``gone`` is called once the supervisor is, however it died."""

    def __init__(self, gone: Callable[[], object]) -> None:
        self._gone = gone
        self._writer: asyncio.WriteTransport | None = None
        self._tasks = Tasks()
        self._unread: list[Line] = []
        self._heard: Callable[[Line], None] = self._unread.append

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_LIMIT)
        # Duplicates: closing them must not close what other parts of the program know as 0 and 1.
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb"))
        self._writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(os.dup(1), "wb"))
        self._tasks.spawn(self._read(reader), name="supervisor-line")
        return self

    async def aclose(self) -> None:
        """Hang up. May be called twice."""
        await self._tasks.aclose()
        if self._writer is not None:
            self._writer.close()

    def say(self, message: Line) -> None:
        """Say something; lost where the supervisor is gone."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line_of(message))

    def follow(self, heard: Callable[[Line], None]) -> None:
        """Call `heard` with what the supervisor says, and has said."""
        self._heard = heard
        for message in self._unread:
            heard(message)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            try:
                self._heard(message_in(line))
            except (ValueError, KeyError, TypeError):
                log.warning("supervisor_not_understood")
        self._gone()
