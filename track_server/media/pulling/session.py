"""A session that pulls: one hidden participant, for as long as the server wants to hear of its tracks."""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc.room import ConnectError

from track.media.v1.media_service_pb2 import PullDesired, SessionTicket
from track.v1.pull_pb2 import PullEnded, PullStarted
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_DATA, TRACK_TYPE_VIDEO
from track_server import errors
from track_server.localwire import HELLO, header, read_message
from track_server.media.inputs.tone import SAMPLE_RATE
from track_server.media.joins import Joins
from track_server.media.measuring import Measuring
from track_server.media.pulling.containers import MIME_TYPES
from track_server.media.pulling.keychecking import KeyCheck, room_options
from track_server.media.pulling.measuring import Received
from track_server.media.pulling.outlet import Outlet
from track_server.media.pulling.pipeline import Pipeline
from track_server.media.pulling.subscribing import Subscribing
from track_server.media.wire import Setup, StartSession
from track_server.pullwire import Kind

log = structlog.get_logger(__name__)

_LONGEST_MESSAGE: Final = 4096
_LAST_WORD_S: Final = 5.0
"""How long the server may take to read what is left."""
_FRAME_MS: Final = 20
_CHUNK_MS: Final = 100
"""How much sound is handed over at once: as a frame, and into a container."""
_RAW: Final = {TRACK_TYPE_VIDEO: "video/raw", TRACK_TYPE_DATA: "application/octet-stream"}


class PullSession:
    """Runs from `run`'s call to its return. Owned by the child process. See Session for the other methods."""

    def __init__(
        self,
        start: StartSession,
        ticket: SessionTicket,
        setup: Setup,
        joins: Joins,
        leaving: Callable[[str], None],
    ) -> None:
        self._start, self._ticket, self._setup = start, ticket, setup
        self._joins = joins
        self._leaving = leaving
        self._room = rtc.Room()
        self._joined = False
        self._stopped = asyncio.Event()
        self._desired = PullDesired()
        self._pipeline: Pipeline | None = None
        self._subscribing: Subscribing | None = None
        self._received = Received(lambda: self._subscribing.tracks() if self._subscribing is not None else [])
        self._log = log.bind(session_id=ticket.session_id)

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """It signs nothing."""

    def stop(self) -> None:
        """The worker shuts down."""
        self._stopped.set()

    def withdraw(self) -> None:
        """Whoever asked for it does not want it any more."""
        self._stopped.set()

    async def terminate(self) -> None:
        """LiveKit knows no job for it."""
        self._stopped.set()

    async def run(self) -> None:
        """Ask the server what to pull, and bring it until either says that it is over."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._ticket.pull.socket_path)
        except OSError as error:
            self._log.warning("pull_server_away", cause=str(error))
            self._leaving("the server is away")
            return
        try:
            ticket = self._ticket.pull.ticket.encode()
            writer.write(header(HELLO, len(ticket)) + ticket)
            await self._serve(reader, writer)
        finally:
            writer.close()
            # A server that is gone cannot be said goodbye to.
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), _LAST_WORD_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outlet = Outlet(writer)
        try:
            kind, _, payload = await read_message(reader, _LONGEST_MESSAGE)
        except (OSError, struct.error, asyncio.IncompleteReadError):
            kind, payload = 0, b""
        if kind != Kind.WANT:
            self._leaving("")
            return
        desired = self._desired = PullDesired.FromString(payload)
        outlet.stats.CopyFrom(desired.stats)

        async def measure() -> None:
            found = await self._received.read()
            if found.tracks:
                outlet.measured(found)

        measuring = Measuring(measure)
        tasks = {
            asyncio.create_task(self._pull(desired, outlet), name="pull"),
            asyncio.create_task(self._listen(reader, outlet, measuring), name="pull-server"),
            asyncio.create_task(self._stopped.wait(), name="pull-stop"),
            asyncio.create_task(measuring.run(), name="pull-stats"),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leaving("")
            for task in tasks:
                task.cancel()
            self._tell(outlet, await asyncio.gather(*tasks, return_exceptions=True))
            if self._joined:
                await self._joins.leave(self._room)

    def _tell(self, outlet: Outlet, results: Iterable[object]) -> None:
        """Says why it failed, where it did."""
        for result in results:
            if isinstance(result, errors.TrackError):
                self._log.info("pull_failed", reason=result.message)
                outlet.failed(result.problem())
            elif isinstance(result, Exception):
                self._log.error("pull_broke", exc_info=result)
                outlet.failed(errors.Internal("the media worker failed").problem())

    async def _pull(self, desired: PullDesired, outlet: Outlet) -> None:
        """Brings it to the end. Raises TrackError where it cannot."""
        pipeline = self._pipeline = Pipeline(desired, outlet)
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fail(error: errors.TrackError) -> None:
            if not failed.done():
                failed.set_exception(error)

        subscribing = Subscribing(
            self._room,
            pipeline,
            desired.channels,
            _FRAME_MS if desired.HasField("frames") else _CHUNK_MS,
            lambda sid: outlet.started(_started(desired, sid)),
            fail,
        )
        check = KeyCheck(self._room, subscribing.data_missing, fail)
        self._follow(subscribing, pipeline, check)
        running = asyncio.create_task(pipeline.run(), name="pull-pipeline")
        try:
            await self._join(room_options(desired.encryption_key))
            self._subscribing = subscribing
            subscribing.want(self._desired)
            async with check.watching(data=desired.encrypted and desired.type == TRACK_TYPE_DATA):
                await asyncio.wait({running, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            running.result()
        finally:
            failed.cancel()
            await subscribing.aclose()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _join(self, options: rtc.RoomOptions) -> None:
        """Raises LiveKitUnavailable."""
        try:
            await self._joins.join(self._room, self._start.url or self._setup.url, self._start.token, options)
        except ConnectError as error:
            raise errors.LiveKitUnavailable("LiveKit did not let the session join") from error
        self._joined = True

    def _follow(self, subscribing: Subscribing, pipeline: Pipeline, check: KeyCheck) -> None:
        room = self._room
        room.on("track_published", lambda publication, _: subscribing.published(publication))
        room.on("track_subscribed", lambda track, publication, _: subscribing.subscribed(track, publication))
        room.on("track_unsubscribed", lambda _, publication, __: subscribing.unsubscribed(publication.sid))
        room.on("track_unpublished", lambda publication, _: subscribing.unsubscribed(publication.sid))
        room.on("data_track_published", subscribing.data_published)
        room.on("data_track_unpublished", subscribing.data_unpublished)
        room.on("reconnected", subscribing.look)
        room.on("disconnected", lambda _: pipeline.leave())
        room.on("e2ee_state_changed", lambda _, state: check.changed(state))

    async def _listen(self, reader: asyncio.StreamReader, outlet: Outlet, measuring: Measuring) -> None:
        """Does what the server says, until it is gone."""
        with contextlib.suppress(OSError, struct.error, asyncio.IncompleteReadError):
            while True:
                kind, number, payload = await read_message(reader, _LONGEST_MESSAGE)
                match kind:
                    case Kind.WANT:
                        self._desired = PullDesired.FromString(payload)
                        if self._subscribing is not None:
                            self._subscribing.want(self._desired)
                    case Kind.CREDIT:
                        outlet.freed(number)
                    case Kind.MEASURE:
                        measuring.want(number / 1e6)
                    case Kind.FINISH if self._pipeline is not None:
                        self._pipeline.finish(PullEnded.FromString(payload).reason)
                    case _:
                        pass


def _started(desired: PullDesired, sid: str) -> PullStarted:
    """What the caller is told first."""
    if desired.HasField("frames"):
        mime_type = _RAW.get(desired.type, "audio/pcm")
    else:
        mime_type = MIME_TYPES[desired.container]
        if desired.type != TRACK_TYPE_VIDEO:
            mime_type = mime_type.replace("video/", "audio/")
    started = PullStarted(track_sid=sid, mime_type=mime_type)
    if desired.type == TRACK_TYPE_AUDIO or desired.audio_track_sid:
        started.sample_rate_hz, started.channels = SAMPLE_RATE, desired.channels
    return started
