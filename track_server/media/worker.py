"""The media worker: takes jobs from LiveKit's dispatch, and has child processes host them.

It is a program of its own, and never loads LiveKit's native SDK: what that takes along is one child.
"""

import asyncio
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
import uvloop
from google.protobuf import json_format
from livekit.protocol import agent

from track.media.v1.media_service_pb2 import SessionTicket
from track_server.agent import REGISTERED, SESSION_ATTRIBUTE
from track_server.keys import ApiKey, KeyRing
from track_server.livekit.jobs import Accept, Decline, JobWorker
from track_server.media.children import Children
from track_server.media.settings import MediaSettings
from track_server.media.wire import StartSession

log = structlog.get_logger(__name__)


class MediaWorker:
    """A worker that takes jobs while the context lasts. On leaving it, its sessions end as WORKER_STOPPING."""

    def __init__(self, settings: MediaSettings, on_registered: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._sessions: set[str] = set()
        self._children = Children(settings, self._session_leaving, self._session_over)
        self._jobs = JobWorker(
            settings.url, settings.api_key, settings.api_secret, settings.agent_name, self, on_registered=on_registered
        )
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._children)
            # Registered only when a job can begin at once.
            await self._children.warm()
            await stack.enter_async_context(self._jobs)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Take no more jobs, end the sessions, stop the children. May be called twice."""
        self._jobs.drain()
        # Children first: what becomes of their jobs is told to LiveKit.
        await self._children.aclose()
        await self._stack.aclose()

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Exchange the key for this one. Connections and sessions that stand go on."""
        self._jobs.sign_with(api_key, api_secret)
        self._children.sign_with(api_key, api_secret)

    async def registered(self) -> None:
        """Wait until LiveKit knows the worker."""
        await self._jobs.registered()

    @property
    def sessions(self) -> int:
        """Sessions that it hosts or has promised to host."""
        return len(self._sessions)

    @property
    def child_pids(self) -> list[int]:
        """Process ids of its children."""
        return self._children.pids

    # What LiveKit says

    def job_offered(self, job: agent.Job) -> Accept | Decline:
        """Take it if there is a place."""
        ticket = _ticket(job.metadata)
        if ticket is None:
            log.error("job_without_ticket", job_id=job.id, room=job.room.name)
            return Decline(final=True)
        if len(self._sessions) >= self._settings.max_sessions:
            return Decline()
        self._sessions.add(job.id)
        self._tell_load()
        return Accept(ticket.participant_identity, attributes={SESSION_ATTRIBUTE: ticket.session_id})

    def job_assigned(self, job: agent.Job, url: str, token: str) -> None:
        """Have a child host it."""
        self._children.start(
            StartSession(job_id=job.id, worker_id=self._jobs.worker_id, url=url, token=token, ticket=job.metadata)
        )

    def job_lapsed(self, job_id: str) -> None:
        """Give its place back."""
        self._session_over(job_id)

    def job_terminated(self, job_id: str) -> None:
        """Pass it on."""
        self._children.terminate(job_id)

    # What the children say

    def _session_leaving(self, job_id: str, error: str) -> None:
        self._jobs.set_job_status(job_id, agent.JS_FAILED if error else agent.JS_SUCCESS, error)

    def _session_over(self, job_id: str) -> None:
        self._sessions.discard(job_id)
        self._tell_load()

    def _tell_load(self) -> None:
        self._jobs.set_load(len(self._sessions), self._settings.max_sessions)


def _ticket(metadata: str) -> SessionTicket | None:
    try:
        ticket = json_format.Parse(metadata, SessionTicket(), ignore_unknown_fields=True)
    except json_format.ParseError:
        return None
    return ticket if ticket.session_id and ticket.participant_identity and ticket.server_address else None


def run_worker(settings: MediaSettings, *, supervised: bool = False) -> None:
    """Run a media worker until SIGTERM or SIGINT. Logs with structlog as the caller has configured it.

    Raises SettingsError for a wrong file of keys.

    ``supervised``: it also ends when its standard input does, and writes a line to standard output whenever LiveKit
    knows it.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, supervised))


async def _run(settings: MediaSettings, supervised: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    if supervised:
        # The supervisor never writes: what can be read is the end, which comes however it dies.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _supervisor_gone, task)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with KeyRing(ApiKey(settings.api_key, settings.api_secret), settings.keys_file) as keys:
            acting = keys.acting
            settings = dataclasses.replace(settings, api_key=acting.key, api_secret=acting.secret)
            async with MediaWorker(settings, _say_registered if supervised else lambda: None) as worker:

                def renew() -> None:
                    worker.sign_with(keys.acting.key, keys.acting.secret)

                keys.follow(renew)
                renew()  # what changed meanwhile
                await asyncio.Event().wait()


def _supervisor_gone(task: asyncio.Task[None]) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    task.cancel()


def _say_registered() -> None:
    sys.stdout.write(f"{REGISTERED}\n")
    sys.stdout.flush()
