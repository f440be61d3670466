"""A real redis-server as a child process, on a loopback port of its own: what LiveKit needs to know of Ingress."""

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.livekit_process import ReservedPort, ToolMissingError, dying_with_parent

_START_DEADLINE_S: Final = 60.0


class Redis:
    """One redis-server, which keeps nothing on disk."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._port = port

    async def command(self, *words: bytes) -> bytes:
        """Its answer to a command, as the protocol (RESP) has it: one line at most is read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            return (await reader.readline()).strip()
        finally:
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def redis(directory: Path) -> AsyncIterator[Redis]:
    """Runs for the span of the block; ``directory`` exists. Raises ToolMissingError where it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        raise ToolMissingError("redis-server is missing: `apt-get install redis-server`")
    port = ReservedPort()
    arguments = ["--port", str(port.number), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (directory / "redis.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a few ms
            dying_with_parent(program, *arguments, "--dir", str(directory)), stdout=log, stderr=log
        )
    try:
        server = Redis(port.number)
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            with contextlib.suppress(OSError):
                if await server.command(b"PING") == b"+PONG":
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"redis-server does not answer:\n{(directory / 'redis.log').read_text()[-2000:]}")
            await asyncio.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()
        port.release()
