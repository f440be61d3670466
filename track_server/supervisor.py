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
from track_server.config import Settings, environment_name
from track_server.keys import KeyRing

log = structlog.get_logger(__name__)

_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 10.0
# A worker that lived so long did not fail to start: the next one starts without delay.
_SOUND_S: Final = 30.0
_STOP_S: Final = 8.0


class Supervisor:
    """Keeps ``count`` processes `python -m track_server worker --supervised` running, `async with`.

    ``environment``: gives the settings for one that is started, on top of our own environment. ``on_registered`` is
    called whenever LiveKit knows one of them.
    """

    def __init__(
        self, count: int, environment: Callable[[], Mapping[str, str]], on_registered: Callable[[], None]
    ) -> None:
        self._count = count
        self._on_registered = on_registered
        self._environment = environment
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
                env={**os.environ, **self._environment()},
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


def worker_environment(settings: Settings, keys: KeyRing) -> dict[str, str]:
    """The settings that a media worker reads, for its environment."""
    values = {
        # It asks nobody: what else the mode needs may have been given to us as flags, and is not its business.
        "auth_mode": "token",
        "livekit_url": settings.livekit_ws_url,
        "livekit_api_key": keys.acting.key,
        "livekit_api_secret": keys.acting.secret,
        "keys_file": str(settings.keys_file or ""),
        "media_dir": str(settings.media_dir or ""),
        "media_url_hosts": ",".join(sorted(settings.media_url_hosts)),
        "worker_max_sessions": str(settings.worker_max_sessions),
        "worker_sessions_per_child": str(settings.worker_sessions_per_child),
        "log_level": settings.log_level,
        "log_format": settings.log_format,
    }
    return {environment_name(name): value for name, value in values.items()}
