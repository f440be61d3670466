"""A child process of the media worker: the only place where LiveKit's native SDK is loaded.

Run by `lifeline` as `track_server.media.child FD`: FD is a socket to the worker (`wire.py`). It ends when the worker
says so or is gone, however the worker ended.
"""

import asyncio
import contextlib
import dataclasses
import socket
import sys
from typing import Final

import structlog
import uvloop
from google.protobuf import json_format
from livekit import rtc

from track.media.v1.media_service_pb2 import SessionTicket
from track_server.lifetime import Tasks
from track_server.logs import configure_logging
from track_server.media.attachment import Channels
from track_server.media.joins import Joins
from track_server.media.pulling.session import PullSession
from track_server.media.session import Session
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

_STOP_S: Final = 6.0
_JOINS_S: Final = 2.0
"""For what nobody wants any more, at the end. Both together are less than the worker waits."""


class Child:
    """Serves the worker at the other end of a socket."""

    def __init__(self, setup: Setup, writer: asyncio.StreamWriter) -> None:
        self._setup = setup
        self._writer = writer
        self._channels = Channels()
        self._joins = Joins()
        self._sessions: dict[str, Session | PullSession] = {}
        self._tasks = Tasks()

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
                    self._tasks.spawn(self._sessions[job_id].terminate(), name=f"terminate-{job_id}")
                case WithdrawSession(job_id) if job_id in self._sessions:
                    self._sessions[job_id].withdraw()
                case Ping():
                    self._tell(Pong())
                case Stop():
                    break
                case _:
                    pass
        for session in self._sessions.values():
            session.stop()
        await self._tasks.settle(_STOP_S)
        await self._joins.settle(_JOINS_S)
        await self._channels.aclose()

    def _begin(self, start: StartSession) -> None:
        """At once, not in the task: the next message may already be for the session, or Stop."""
        job_id = start.job_id
        try:
            ticket = json_format.Parse(start.ticket, SessionTicket(), ignore_unknown_fields=True)
            session = self._create(start, ticket)
        except Exception:
            log.exception("session_broke", job_id=job_id)
            self._leaving(job_id, "the media worker failed")
            self._tell(SessionOver(job_id))
            return
        self._sessions[job_id] = session
        self._tasks.spawn(self._run(job_id, session), name=f"session-{job_id}")

    def _create(self, start: StartSession, ticket: SessionTicket) -> Session | PullSession:
        def leaving(error: str) -> None:
            self._leaving(start.job_id, error)

        if ticket.HasField("pull"):
            return PullSession(start, ticket, self._setup, self._joins, leaving)
        return Session(start, ticket, self._setup, self._channels, self._joins, leaving)

    async def _run(self, job_id: str, session: Session | PullSession) -> None:
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


def main() -> None:
    """Run the child process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
