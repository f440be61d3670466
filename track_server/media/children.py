"""The child processes of a media worker: started, kept warm, recycled, and replaced where they crash."""

import asyncio
import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final, Self

import structlog
from google.protobuf import json_format

from track.media.v1.media_service_pb2 import SessionTicket
from track_server.lifeline import bound
from track_server.lifetime import Closing, Tasks
from track_server.media.settings import MediaSettings
from track_server.media.wire import (
    LINE_LIMIT,
    Message,
    Ping,
    Pong,
    Ready,
    SessionLeaving,
    SessionOver,
    Setup,
    SignWith,
    StartSession,
    Stop,
    TerminateSession,
    WithdrawSession,
    decode,
    encode,
)

log = structlog.get_logger(__name__)

_START_S: Final = 60.0
_STOP_S: Final = 10.0
_FIRST_DELAY_S: Final = 0.5
_LAST_DELAY_S: Final = 30.0
_STEADY_S: Final = 5.0
"""A child that lived so long neither failed to start nor died of its first session: there is no back-off."""
_PING_S: Final = 1.0
_SLOW: Final = 3
"""So many pings unanswered: it gets no sessions until it answers. They are counted, and not the time since the last
answer, which passes as well while this process itself is held up."""
_HUNG: Final = 30
"""So many: it never will. The server has long had its sessions hosted elsewhere."""
_SPARE: Final = 2
"""Places that are kept in children that run: a child takes two seconds to start, and a session must not wait for it."""


class ChildProcess:
    """One child process, and the sessions that were given to it."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        """Their ids, by job."""
        self.served = 0
        self.retired = False
        """It gets no more sessions, and ends when it is empty."""
        self.ready = False
        self.pid = 0
        self.unanswered = 0
        """Pings since its last answer."""
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []

    @property
    def slow(self) -> bool:
        """Whether it does not get to what it is told."""
        return self.unanswered >= _SLOW

    def has(self, session_id: str) -> bool:
        """Whether the session was given to it, and is not over."""
        return session_id in self.sessions.values()

    def tell(self, message: Message) -> None:
        """Send it; kept until the process runs."""
        if self._writer is None:
            self._unsent.append(encode(message))
        elif not self._writer.is_closing():
            self._writer.write(encode(message))

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def run(self, setup: Setup, heard: Callable[[Message], None]) -> int:
        """Run the process to its end, and return its exit status (negative: the signal that killed it)."""
        ours, theirs = socket.socketpair()
        with theirs:
            # Started anew and never forked: the SDK is not usable after a fork. In a session of its own, so that Ctrl-C
            # in a terminal reaches the worker alone, which then stops its children in order.
            process = await asyncio.create_subprocess_exec(
                *bound("track_server.media.child", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.pid, self._process = process.pid, process
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        try:
            self._writer.write(b"".join([encode(setup), *self._unsent]))
            # A child that is killed breaks the connection instead of closing it.
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(_START_S):
                    line = await reader.readline()
                while line:
                    message = decode(line)
                    self.ready = self.ready or isinstance(message, Ready)
                    heard(message)
                    line = await reader.readline()
        finally:
            self._writer.close()
            if process.returncode is None:
                # It closed the connection, so it is about to end.
                try:
                    await asyncio.wait_for(process.wait(), _STOP_S)
                except (TimeoutError, asyncio.CancelledError):
                    process.kill()
                    await process.wait()
        return process.returncode if process.returncode is not None else 0


def preferred(children: Iterable[ChildProcess]) -> ChildProcess | None:
    """The one that a session goes to: of those that are ready the one that has served most, so that it comes to its
    end and does not stay beside its successor with a place or two; of equals the fullest: so spare ones stay empty."""
    return min(children, key=lambda child: (not child.ready, -child.served, -len(child.sessions)), default=None)


class Children(Closing):
    """The pool. `leaving(job_id, error)` and `over(job_id)` are called as sessions end, by themselves or by a crash."""

    def __init__(
        self, settings: MediaSettings, leaving: Callable[[str, str], None], over: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._leaving, self._over = leaving, over
        self._setup = Setup(
            url=settings.url,
            api_key=settings.api_key,
            api_secret=settings.api_secret,
            media_dir=str(settings.media_dir or ""),
            url_hosts=list(settings.url_hosts),
            orphan_timeout_s=settings.orphan_timeout_s,
            log_level=settings.log_level,
            log_json=settings.log_json,
        )
        self._children: set[ChildProcess] = set()
        self._tasks = Tasks()
        self._warm = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._crashes = 0
        self._closing = False

    async def __aenter__(self) -> Self:
        self._keep_warm()
        self._watching = asyncio.create_task(self._watch(), name="media-children-watch")
        return self

    async def aclose(self) -> None:
        """Stop all sessions and children. May be called twice."""
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for child in self._children:
            child.tell(Stop())
        await self._tasks.settle(_STOP_S)
        await self._tasks.aclose()

    async def warm(self) -> None:
        """Wait until a child is ready."""
        await self._warm.wait()

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run."""
        return [child.pid for child in self._children if child.pid]

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Exchange the key for this one, for new sessions and for streams that are begun anew."""
        self._setup = dataclasses.replace(self._setup, api_key=api_key, api_secret=api_secret)
        for child in self._children:
            child.tell(SignWith(api_key, api_secret))

    def start(self, start: StartSession) -> None:
        """Give a session to a child."""
        ticket = json_format.Parse(start.ticket, SessionTicket(), ignore_unknown_fields=True)
        able = [child for child in self._children if self._places(child)]
        if ticket.elsewhere:
            # One that is still starting has not been asked in vain.
            able = [child for child in able if not (child.ready and child.has(ticket.session_id))]
        child = preferred(able) or self._begin()
        child.sessions[start.job_id] = ticket.session_id
        child.served += 1
        child.retired = child.served >= self._settings.sessions_before_recycling
        child.tell(start)
        self._keep_warm()

    def terminate(self, job_id: str) -> None:
        """Tell a session that LiveKit regards its job as over."""
        for child in self._children:
            if job_id in child.sessions:
                child.tell(TerminateSession(job_id))

    def withdraw(self, job_id: str) -> None:
        """Tell a session that it is not wanted any more."""
        for child in self._children:
            if job_id in child.sessions:
                child.tell(WithdrawSession(job_id))

    def _places(self, child: ChildProcess) -> int:
        """Sessions that it can still be given."""
        if child.retired or child.slow:
            return 0
        free = self._settings.sessions_per_child - len(child.sessions)
        return min(free, self._settings.sessions_before_recycling - child.served)

    def _keep_warm(self) -> None:
        """Start children where too few places are left, so that the next session need not wait for one."""
        hosted = sum(len(child.sessions) for child in self._children)
        needed = max(1, min(_SPARE, self._settings.max_sessions - hosted))
        # Where one is slow that has nothing to do, the machine is, and one more would make it slower.
        if any(child.slow and not child.sessions for child in self._children):
            return
        while not self._closing and sum(map(self._places, self._children)) < needed:
            self._begin()

    def _begin(self) -> ChildProcess:
        child = ChildProcess()
        self._children.add(child)
        self._tasks.spawn(self._live(child), name="media-child")
        return child

    async def _live(self, child: ChildProcess) -> None:
        if self._crashes:
            await asyncio.sleep(min(_LAST_DELAY_S, _FIRST_DELAY_S * float(2 ** min(self._crashes - 1, 10))))
        born = time.monotonic()
        status: int | str = "unknown"
        try:
            status = await child.run(self._setup, lambda message: self._heard(child, message))
        except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            status = repr(error)
        finally:
            self._bury(child, status, time.monotonic() - born)

    async def _watch(self) -> None:
        """Asks the children whether they get to what they are told."""
        while True:
            await asyncio.sleep(_PING_S)
            for child in [child for child in self._children if child.ready]:
                if child.unanswered == _SLOW:
                    log.warning("media_child_slow", pid=child.pid, sessions=len(child.sessions))
                elif child.unanswered >= _HUNG:
                    log.error("media_child_hangs", pid=child.pid, sessions=len(child.sessions))
                    child.kill()
                child.unanswered += 1
                child.tell(Ping())
            self._keep_warm()

    def _heard(self, child: ChildProcess, message: Message) -> None:
        match message:
            case Ready():
                log.info("media_child_ready", pid=child.pid)
                self._warm.set()
            case Pong():
                child.unanswered = 0
            case SessionLeaving(job_id, error):
                self._leaving(job_id, error)
            case SessionOver(job_id) if job_id in child.sessions:
                del child.sessions[job_id]
                self._over(job_id)
                if child.retired and not child.sessions:
                    child.tell(Stop())
                self._keep_warm()
            case _:
                pass

    def _bury(self, child: ChildProcess, status: int | str, lived_s: float) -> None:
        self._children.discard(child)
        if not self._closing and not (child.retired and status == 0):
            self._crashes = 0 if lived_s > _STEADY_S else self._crashes + 1
            log.error("media_child_crashed", pid=child.pid, status=status, sessions=len(child.sessions))
        for job_id in list(child.sessions):
            self._leaving(job_id, "the media process ended")
            self._over(job_id)
        self._keep_warm()
