"""A TCP relay between TrackService and LiveKit, which can be cut and held shut."""

import asyncio
import contextlib

from track_server.lifetime import Closing, Tasks


class Relay(Closing):
    """Passes connections on to ``port`` of this machine, `async with`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks = Tasks()

    async def start(self) -> str:
        """Begins; returns the URL for TrackService."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        """See Closing."""
        if self._server is not None:
            self._server.close()
        self.cut()
        await self._tasks.aclose()

    def cut(self) -> int:
        """Resets every connection; returns how many."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    def shut(self) -> None:
        """Cuts, and takes no connection until ``open``."""
        self._open = False
        self.cut()

    def stall(self) -> None:
        """Passes nothing on until ``open``; connections stay."""
        self._passing.clear()

    def open(self) -> None:
        """Everything passes again."""
        self._open = True
        self._passing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._relay(reader, writer), name="relay")

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._open:
                raise ConnectionError
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, downstream}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, downstream))
                both.create_task(self._pump(upstream, writer))
        except* OSError:
            pass
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
