"""The media worker: takes jobs from LiveKit's dispatch and offers of its supervisor, and has child processes host them.

It is a program of its own, and never loads LiveKit's native SDK: what that takes along is one child.
"""

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable
from typing import Self

import structlog
import uvloop
from google.protobuf import json_format
from livekit.protocol import agent

from track.media.v1.media_service_pb2 import SessionTicket
from track_server.agent import SESSION_ATTRIBUTE, Answer, Line, Load, Offer, Over, Registered, Withdraw
from track_server.keys import ApiKey, KeyRing
from track_server.lifetime import Closing
from track_server.livekit.jobs import Accept, Decline, JobWorker
from track_server.media.children import Children
from track_server.media.declining import Declines
from track_server.media.settings import MediaSettings
from track_server.media.supervisorline import SupervisorLine
from track_server.media.wire import StartSession

log = structlog.get_logger(__name__)


class MediaWorker(Closing):
    """A worker that takes jobs while the context lasts. On leaving it, its sessions end as WORKER_STOPPING.

    ``say`` takes what a supervisor is to be told.
    """

    def __init__(self, settings: MediaSettings, say: Callable[[Line], None] = lambda _: None) -> None:
        self._settings = settings
        self._say = say
        self._sessions: set[str] = set()
        """By LiveKit's id of the job, or by the id of the supervisor's offer."""
        self._offers: set[str] = set()
        """Those of the supervisor: LiveKit knows no job for them."""
        self._children = Children(settings, self._session_leaving, self._session_over)
        self._declines = Declines(settings.api_key, settings.api_secret)
        self._jobs = JobWorker(
            settings.url,
            settings.api_key,
            settings.api_secret,
            settings.agent_name,
            self,
            on_registered=lambda: say(Registered()),
        )
        self._stopping = False
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._children)
            # Registered only when a job can begin at once.
            await self._children.warm()
            stack.push_async_callback(self._declines.aclose)
            await stack.enter_async_context(self._jobs)
            self._stack = stack.pop_all()
        self._tell_load()
        return self

    async def aclose(self) -> None:
        """Take no more sessions, end those that run, stop the children. May be called twice."""
        self._stopping = True
        self._jobs.drain()
        # Children first: what becomes of their jobs is told to LiveKit.
        await self._children.aclose()
        await self._stack.aclose()

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Exchange the key for this one. Connections and sessions that stand go on."""
        self._jobs.sign_with(api_key, api_secret)
        self._declines.sign_with(api_key, api_secret)
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

    # What the supervisor says

    def told(self, message: Line) -> None:
        """Take a session that is offered if there is a place, or give one up."""
        match message:
            case Offer():
                taken = self._take(message)
                # The load first: who hears the answer knows it then.
                self._tell_load()
                self._say(Answer(message.offer_id, taken))
            case Withdraw(offer_id):
                self._children.withdraw(offer_id)
            case _:
                pass

    def _take(self, offer: Offer) -> bool:
        if self._stopping or self._full() or time.monotonic() > offer.expire or _ticket(offer.ticket) is None:
            return False
        self._sessions.add(offer.offer_id)
        self._offers.add(offer.offer_id)
        worker_id = self._jobs.worker_id
        self._children.start(
            StartSession(job_id=offer.offer_id, worker_id=worker_id, url="", token=offer.token, ticket=offer.ticket)
        )
        return True

    # What LiveKit says

    def job_offered(self, job: agent.Job) -> Accept | Decline:
        """Take it if there is a place."""
        ticket = _ticket(job.metadata)
        if ticket is None:
            log.error("job_without_ticket", job_id=job.id, room=job.room.name)
            return Decline(final=True)
        if self._full():
            self._declines.tell(ticket, self._settings.max_sessions)
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
        if job_id not in self._offers:
            self._jobs.set_job_status(job_id, agent.JS_FAILED if error else agent.JS_SUCCESS, error)

    def _session_over(self, job_id: str) -> None:
        self._sessions.discard(job_id)
        self._tell_load()
        if job_id in self._offers:
            self._offers.discard(job_id)
            self._say(Over(job_id))

    def _full(self) -> bool:
        return len(self._sessions) >= self._settings.max_sessions

    def _tell_load(self) -> None:
        sessions, limit = len(self._sessions), self._settings.max_sessions
        self._jobs.set_load(sessions, limit)
        if not self._stopping:
            self._say(Load(sessions, limit))


def _ticket(metadata: str) -> SessionTicket | None:
    try:
        ticket = json_format.Parse(metadata, SessionTicket(), ignore_unknown_fields=True)
    except json_format.ParseError:
        return None
    reachable = ticket.server_address or ticket.HasField("pull")
    return ticket if ticket.session_id and ticket.participant_identity and reachable else None


def run_worker(settings: MediaSettings, *, supervised: bool = False) -> None:
    """Run a media worker until SIGTERM or SIGINT. Logs with structlog as the caller has configured it.

    Raises SettingsError for a wrong file of keys.

    ``supervised``: it also takes what a supervisor says on standard input, says there what `agent.py` tells, and ends
    when standard input does.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, supervised))


async def _run(settings: MediaSettings, supervised: bool) -> None:
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        # Once: a supervisor that is killed says so by a signal and on the line, and ending is not to be cut short.
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        async with contextlib.AsyncExitStack() as stack:
            line = await stack.enter_async_context(SupervisorLine(stop)) if supervised else None
            keys = await stack.enter_async_context(
                KeyRing(ApiKey(settings.api_key, settings.api_secret), settings.keys_file)
            )
            acting = keys.acting
            settings = dataclasses.replace(settings, api_key=acting.key, api_secret=acting.secret)
            worker = await stack.enter_async_context(
                MediaWorker(settings, line.say) if line is not None else MediaWorker(settings)
            )

            def renew() -> None:
                worker.sign_with(keys.acting.key, keys.acting.secret)

            keys.follow(renew)
            renew()  # what changed meanwhile
            if line is not None:
                line.follow(worker.told)
            await asyncio.Event().wait()
