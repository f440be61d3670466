"""A hosted session: one participant of one room, for as long as a media worker is to host it.

It is a reconciler: while a publication is wanted, there is a worker that is told to publish it.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from google.protobuf import json_format

from track.media.v1 import media_service_pb2 as media
from track.v1 import publication_pb2
from track_server.agent import AGENT_NAME
from track_server.errors import (
    IdentityInUse,
    PublicationEnded,
    RoomNotFound,
    TrackError,
    WorkerUnavailable,
    duration_of,
)
from track_server.livekit.api import LiveKitApi
from track_server.publishing.attachment import Attachment
from track_server.publishing.audience import Audience, Telling
from track_server.publishing.book import Book
from track_server.publishing.carried import VANISHED_GRACE_S, Carried
from track_server.publishing.ids import hosted, session_id
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

# A worker answers a dispatch within half a second; one that must start a child first takes two or three.
ATTACH_TIMEOUT_S: Final = 4.0
# How long a worker that just registered needs for a dispatch that was made shortly before.
JUST_REGISTERED_S: Final = 0.5
# A session whose stream to us broke tries again at once; one that is dead never does.
REATTACH_GRACE_S: Final = 1.0
STOP_TIMEOUT_S: Final = 3.0
RETRY_FIRST_S: Final = 0.25
RETRY_LAST_S: Final = 10.0

_END_CAUSES: Final = {
    media.SESSION_END_REASON_ROOM_CLOSED: publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED,
    media.SESSION_END_REASON_PARTICIPANT_REMOVED: publication_pb2.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED,
}


@dataclass(frozen=True, slots=True)
class Hosting:
    """What every session needs."""

    rooms: Rooms
    api: LiveKitApi
    book: Book
    server_address: str
    """Where sessions find our MediaService."""
    restricted: Callable[[str, str], bool]
    """Whether not everybody may subscribe to a publication, by room and id."""
    on_audience: Callable[[str], None]
    """Told of the room where LiveKit was told, or its worker was lost or came."""


class HostedSession:
    """``run()`` hosts the participant for as long as one of its publications is wanted.

    ``restored``: a worker may be there that lost its stream to us when we were restarted.
    """

    def __init__(self, hosting: Hosting, room: str, identity: str, *, restored: bool = False) -> None:
        self.session_id = session_id(room, identity)
        self.room = room
        self.identity = identity
        self.carried = Carried(hosting.book, room, identity, self.kick, hosting.restricted)
        self._hosting = hosting
        self._attachment: Attachment | None = None
        self._generation = 0
        """Grows with every dispatch, also over a restart of ours: a worker of an older one is sent away."""
        self._may_return = restored
        """Whether a worker that lost its stream to us may come back by itself."""
        self._stats_interval_s: float | None = None
        self._telling = Telling()
        self._kick = asyncio.Event()
        self._worker_came = asyncio.Event()

    def kick(self) -> None:
        """Says that what is wanted has changed."""
        self._kick.set()
        self._tell()

    def want_stats(self, interval_s: float | None) -> None:
        """Asks the worker for statistics at that interval in seconds, or for none."""
        if interval_s != self._stats_interval_s:
            self._stats_interval_s = interval_s
            self._tell()

    def want_audience(self, audience: Audience) -> None:
        """Says who may subscribe to its tracks."""
        if self._telling.want(audience):
            self._tell()

    @property
    def audience(self) -> Audience | None:
        """What LiveKit was told last of who may subscribe, as far as is known; None: nothing."""
        return self._telling.in_force

    def worker_came(self) -> None:
        """A media worker registered with LiveKit: a dispatch that found none can be made again."""
        if self._attachment is None:
            self._worker_came.set()
            self._kick.set()

    async def run(self) -> None:
        """Hosts until nothing is wanted any more. Raises nothing but CancelledError."""
        failures = 0
        while self.carried.wanted():
            try:
                async with self._hosting.rooms.watch(self.room) as live:
                    self.carried.live = live
                    await self._host(live)
                failures = 0
            except RoomNotFound:
                await self.carried.end_all(publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED)
            except TrackError as error:
                failures += 1
                await self.carried.trouble(error)
                await self._pause(failures)
            finally:
                self.carried.live = None
        await self._stop()

    # Hosting.

    async def _host(self, live: LiveRoom) -> None:
        guard = asyncio.create_task(self._guard(live), name=f"guard {self.session_id}")
        failures = 0
        try:
            while self.carried.wanted() and not live.closed:
                if self._attachment is not None:
                    self._may_return, failures = True, 0
                    await self._kicked()
                elif not (self._may_return and await self._attached(REATTACH_GRACE_S)):
                    self._may_return = False
                    try:
                        await self._refuse_foreign(live)
                        await self._dispatch()
                    except IdentityInUse:
                        raise
                    except TrackError as error:
                        failures += 1
                        await self.carried.trouble(error)
                        await self._pause(failures)
            if live.closed:
                await self.carried.end_all(publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED)
        except IdentityInUse as error:
            await self.carried.end_all(publication_pb2.PUBLICATION_END_CAUSE_FAILED, error)
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    async def _guard(self, live: LiveRoom) -> None:
        """Follows the room."""
        self.carried.bind_all()
        loop = asyncio.get_running_loop()
        while not live.closed:
            version = live.version
            waiting = await self.carried.compare(live, loop.time())
            if version != live.version or live.closed:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VANISHED_GRACE_S / 4 if waiting else None):
                    await live.log.changed()
        self._kick.set()

    async def _refuse_foreign(self, live: LiveRoom) -> None:
        participant = live.model.participants.get(self.identity)
        if participant is None and self._generation:
            # It may have joined a moment ago, which signalling does not tell yet. PublishTrack looked before the first.
            participant = (await roster(self._hosting.api, self.room)).participants.get(self.identity)
        if participant is not None and not hosted(self.room, participant):
            raise IdentityInUse(f"participant {self.identity!r} is in the room and not hosted by this service")

    async def _dispatch(self) -> None:
        """One try to find a worker. Raises WorkerUnavailable, or what LiveKit says."""
        await self.carried.lost()
        self._generation = max(self._generation + 1, time.time_ns() // 1_000_000)
        ticket = media.SessionTicket(
            session_id=self.session_id,
            generation=self._generation,
            participant_identity=self.identity,
            server_address=self._hosting.server_address,
        )
        metadata = json_format.MessageToJson(ticket, indent=None)
        self._worker_came.clear()
        dispatch = await self._hosting.api.create_dispatch(self.room, AGENT_NAME, metadata)
        taken = await self._attached(ATTACH_TIMEOUT_S)
        if not taken and self._worker_came.is_set():
            # It may have come just in time for this dispatch.
            taken = await self._attached(JUST_REGISTERED_S, whoever_comes=True)
        if not taken:
            # A worker that takes it later would only be sent away.
            with contextlib.suppress(TrackError):
                await self._hosting.api.delete_dispatch(self.room, dispatch.id)
            raise WorkerUnavailable("no media worker took the session", retry_delay_s=2.0)

    async def _attached(self, timeout_s: float, *, whoever_comes: bool = False) -> bool:
        """Waits for a worker, at most ``timeout_s``, or until another one comes; says whether there is one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._attachment is None and self.carried.wanted():
                    if self._worker_came.is_set() and not whoever_comes:
                        break
                    await self._kicked()
        return self._attachment is not None

    async def _kicked(self) -> None:
        await self._kick.wait()
        self._kick.clear()

    async def _pause(self, failures: int) -> None:
        delay = min(RETRY_FIRST_S * 2**failures, RETRY_LAST_S) * random.uniform(0.5, 1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while self.carried.wanted() and not self._worker_came.is_set():
                    await self._kicked()
        # It shortens one pause, not every later one too.
        self._worker_came.clear()

    async def _stop(self) -> None:
        """Sends the worker home."""
        attachment = self._attachment
        if attachment is None:
            return
        attachment.send(media.AttachResponse(stop=media.SessionStop()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await attachment.gone.wait()

    # The worker.

    async def attach(self, attachment: Attachment, hello: media.SessionHello) -> None:
        """A worker hosts this session now. Raises PublicationEnded where a newer one is dispatched, or none wanted."""
        if hello.generation < self._generation or not self.carried.wanted():
            raise PublicationEnded("the session has moved on")
        self._generation = hello.generation
        if self._attachment is not None:
            self._attachment.close()
        self._attachment = attachment
        self._telling.worker_lost()
        self._worker_came.clear()
        await self.carried.taken()
        for report in hello.tracks:
            await self.carried.report(report)
        self.kick()
        self._hosting.on_audience(self.room)

    def detach(self, attachment: Attachment) -> None:
        """The worker's stream is gone."""
        if self._attachment is attachment:
            self._attachment = None
            self._telling.worker_lost()
            self._kick.set()
            self._hosting.on_audience(self.room)

    def told(self, report: media.AudienceReport) -> None:
        """LiveKit was told who may subscribe."""
        self._telling.told(report.revision)
        self._hosting.on_audience(self.room)

    async def ended(self, report: media.SessionEnded) -> None:
        """The worker's session is over."""
        reason = media.SessionEndReason.Name(report.reason)
        log.info("session_ended", room=self.room, identity=self.identity, reason=reason, detail=report.detail)
        self._may_return = False
        cause = _END_CAUSES.get(report.reason)
        if cause is None and report.reason == media.SESSION_END_REASON_DUPLICATE_IDENTITY and self._taken_over():
            cause = publication_pb2.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED
        if cause is not None:
            await self.carried.end_all(cause)
        self._kick.set()

    def _taken_over(self) -> bool:
        live = self.carried.live
        participant = live.model.participants.get(self.identity) if live is not None else None
        return participant is not None and not hosted(self.room, participant)

    def _tell(self) -> None:
        if self._attachment is not None:
            interval = duration_of(self._stats_interval_s) if self._stats_interval_s is not None else None
            self._attachment.send(media.AttachResponse(desired=self.carried.desired(interval, self._telling.message)))
