"""The media workers that `serve` starts: child processes, watched, and started again with back-off when they end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import structlog

from track_server.agent import REGISTERED

log = structlog.get_logger(__name__)

_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 10.0
# A worker that lived so long did not fail to start: the next one starts without delay.
_SOUND_S: Final = 30.0
_STOP_S: Final = 8.0


class Supervisor:
    """Keeps ``count`` processes `python -m track_server worker --supervised` running, `async with`.

    ``environment``: settings for them, on top of our own environment. ``on_registered`` is called whenever LiveKit
    knows one of them.
    """

    def __init__(self, count: int, environment: Mapping[str, str], on_registered: Callable[[], None]) -> None:
        self._count = count
        self._on_registered = on_registered
        self._environment = {**os.environ, **environment}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep(index), name=f"media worker {index}") for index in range(self._count)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the workers: asked first, killed after a while. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY_S
        while True:
            begun = loop.time()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "track_server",
                "worker",
                "--supervised",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._environment,
            )
            try:
                await self._listen(process)
                status = await process.wait()
            finally:
                await _end(process)
            log.warning("media_worker_ended", index=index, status=status)
            delay = _FIRST_DELAY_S if loop.time() - begun > _SOUND_S else min(delay * 2, _LAST_DELAY_S)
            await asyncio.sleep(delay)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Reads what the worker says until it ends."""
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if line.strip() == REGISTERED.encode():
                self._on_registered()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
