"""The media workers that `serve` starts: child processes, watched, and started again with back-off when they end.

Sessions are offered to them directly: the less loaded one first.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from typing import Final, Self

import structlog

from track_server.agent import LINE_LIMIT, Registered, message_in
from track_server.config import Settings, environment_name
from track_server.errors import LimitExceeded
from track_server.keys import KeyRing
from track_server.lifeline import bound
from track_server.lifetime import Closing, Tasks
from track_server.supervised import OfferedSession, SupervisedWorker

log = structlog.get_logger(__name__)

_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 10.0
_STOP_S: Final = 8.0
# When to try again where all are full: sessions last longer than this, but places become free at any time.
_FULL_RETRY_S: Final = 2.0


class Supervisor(Closing):
    """Keeps ``count`` processes `python -m track_server worker --supervised` running, `async with`.

    ``environment``: gives the settings for one that is started, on top of our own environment.
    """

    def __init__(self, count: int, environment: Callable[[], Mapping[str, str]]) -> None:
        self._count = count
        self._environment = environment
        self._came: Callable[[], None] = lambda: None
        self._workers: set[SupervisedWorker] = set()
        self._tasks = Tasks()

    def follow(self, came: Callable[[], None]) -> None:
        """Calls ``came`` whenever a worker can take a session that none could take before."""
        self._came = came

    async def __aenter__(self) -> Self:
        for index in range(self._count):
            self._tasks.spawn(self._keep(index), name=f"media worker {index}")
        return self

    async def aclose(self) -> None:
        """Ends the workers: asked first, killed after a while. May be called twice."""
        await self._tasks.aclose()

    @property
    def ready(self) -> bool:
        """Whether a worker takes offers now, or would if it were not full."""
        return any(worker.answers for worker in self._workers)

    @property
    def expected(self) -> bool:
        """Whether there are any workers at all, be it that they are just being started."""
        return self._count > 0

    async def offer(self, ticket: str, token: str, over: Callable[[], None]) -> OfferedSession | None:
        """Offers a session to one worker after the other; returns it once one has taken it, None where none answers.

        ``ticket``: a SessionTicket as proto JSON. ``token``: joins the room as its participant. ``over`` is called when
        the worker's session is over, or the worker is. Raises LimitExceeded where those that answer are full.
        """
        full_at = 0
        for worker in sorted((worker for worker in self._workers if worker.answers), key=lambda each: each.busy):
            if not worker.full and (session := await worker.offer(ticket, token, over)) is not None:
                return session
            if worker.full:
                full_at = worker.load.max_sessions
        if full_at:
            raise LimitExceeded("worker_max_sessions", full_at, "media workers", retry_delay_s=_FULL_RETRY_S)
        return None

    async def _keep(self, index: int) -> None:
        delay = _FIRST_DELAY_S
        while True:
            process = await asyncio.create_subprocess_exec(
                # Asked to end where the server is killed: it then ends its sessions in order.
                *bound("track_server", "worker", "--supervised", end=signal.SIGTERM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_LIMIT,
                env={**os.environ, **self._environment()},
            )
            assert process.stdin is not None
            worker = SupervisedWorker(process.pid, process.stdin)
            self._workers.add(worker)
            try:
                await self._listen(worker, process)
                status = await process.wait()
            finally:
                self._workers.discard(worker)
                worker.ended()
                await _end(process)
            log.warning("media_worker_ended", index=index, status=status)
            delay = _FIRST_DELAY_S if worker.was_ready else min(delay * 2, _LAST_DELAY_S)
            await asyncio.sleep(delay)

    async def _listen(self, worker: SupervisedWorker, process: asyncio.subprocess.Process) -> None:
        """Reads what the worker says until it ends."""
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                message = message_in(line)
            except (ValueError, KeyError, TypeError):
                log.warning("media_worker_not_understood", pid=process.pid)
                continue
            had_room = worker.has_room
            worker.heard(message)
            if isinstance(message, Registered) or (worker.has_room and not had_room):
                self._came()


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
        "worker_sessions_before_recycling": str(settings.worker_sessions_before_recycling),
        "log_level": settings.log_level,
        "log_format": settings.log_format,
    }
    return {environment_name(name): value for name, value in values.items()}
