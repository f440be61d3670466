"""A child process of the media worker: the only place where LiveKit's native SDK is loaded.

`python -m track_server.media.child FD`: FD is a socket to the worker (`wire.py`). It ends when the worker says so or is
gone, however the worker ended.
"""

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Final

import structlog
import uvloop
from google.protobuf import json_format
from livekit import rtc

from track.media.v1.media_service_pb2 import SessionTicket
from track_server.logs import configure_logging
from track_server.media.attachment import Channels
from track_server.media.session import Session
from track_server.media.wire import (
    LINE_LIMIT,
    Message,
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

_PR_SET_PDEATHSIG: Final = 1
_STOP_S: Final = 8.0


class Child:
    """Serves the worker at the other end of a socket."""

    def __init__(self, setup: Setup, writer: asyncio.StreamWriter) -> None:
        self._setup = setup
        self._writer = writer
        self._channels = Channels()
        self._sessions: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Do what the worker says until it says Stop, or is gone."""
        self._tell(Ready())
        while line := await reader.readline():
            match decode(line):
                case StartSession() as start:
                    self._begin(start)
                case SignWith(api_key, api_secret):
                    self._setup = dataclasses.replace(self._setup, api_key=api_key, api_secret=api_secret)
                    for session in self._sessions.values():
                        session.sign_with(api_key, api_secret)
                case TerminateSession(job_id) if job_id in self._sessions:
                    self._spawn(self._sessions[job_id].terminate(), f"terminate-{job_id}")
                case WithdrawSession(job_id) if job_id in self._sessions:
                    self._sessions[job_id].withdraw()
                case Stop():
                    break
                case _:
                    pass
        for session in self._sessions.values():
            session.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)
        await self._channels.aclose()

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, start: StartSession) -> None:
        """At once, not in the task: the next message may already be for the session, or Stop."""
        job_id = start.job_id
        try:
            ticket = json_format.Parse(start.ticket, SessionTicket(), ignore_unknown_fields=True)
            session = Session(start, ticket, self._setup, self._channels, lambda error: self._leaving(job_id, error))
        except Exception:
            log.exception("session_broke", job_id=job_id)
            self._leaving(job_id, "the media worker failed")
            self._tell(SessionOver(job_id))
            return
        self._sessions[job_id] = session
        self._spawn(self._run(job_id, session), f"session-{job_id}")

    async def _run(self, job_id: str, session: Session) -> None:
        try:
            await session.run()
        except Exception:
            log.exception("session_broke", job_id=job_id)
            self._leaving(job_id, "the media worker failed")
        finally:
            del self._sessions[job_id]
            self._tell(SessionOver(job_id))

    def _leaving(self, job_id: str, error: str) -> None:
        self._tell(SessionLeaving(job_id, error))

    def _tell(self, message: Message) -> None:
        self._writer.write(encode(message))


async def _serve(descriptor: int) -> None:
    connection = socket.socket(fileno=descriptor)
    reader, writer = await asyncio.open_connection(sock=connection, limit=LINE_LIMIT)
    try:
        setup = decode(await reader.readline())
        assert isinstance(setup, Setup)
        configure_logging(level=setup.log_level, as_json=setup.log_json)
        await _warm_up()
        await Child(setup, writer).serve(reader)
    finally:
        # A worker that is gone cannot be said goodbye to.
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()


async def _warm_up() -> None:
    """Load the native library and its WebRTC threads, so that the first session does not wait for them."""
    source = rtc.VideoSource(16, 16)
    rtc.LocalVideoTrack.create_video_track("warm-up", source)
    await source.aclose()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, however it dies."""
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        log.warning("no_parent_death_signal", errno=ctypes.get_errno())
    if os.getppid() != parent or parent == 1:
        sys.exit("the media worker is gone")


def main() -> None:
    """Run the child process."""
    die_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
