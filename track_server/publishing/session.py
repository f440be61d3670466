"""A hosted session: one participant of one room, for as long as a media worker is to host it.

It is a reconciler: while a publication is wanted, there is a worker that is told to publish it.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Final

import structlog

from track.media.v1 import media_service_pb2 as media
from track.v1 import publication_pb2
from track_server.durations import duration_of
from track_server.errors import IdentityInUse, LiveKitUnavailable, PublicationEnded, RoomNotFound, TrackError
from track_server.publishing.attachment import Attachment
from track_server.publishing.audience import Audience, Telling
from track_server.publishing.carried import Carried
from track_server.publishing.entering import with_stereo
from track_server.publishing.hearing import Hearing
from track_server.publishing.identities import is_taken
from track_server.publishing.ids import hosted, session_id
from track_server.publishing.lifecycle import LIVE
from track_server.publishing.placement import Placement
from track_server.publishing.resources import Hosting
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom

log = structlog.get_logger(__name__)

# A session whose stream to us broke tries again at once; one that is dead never does.
REATTACH_GRACE_S: Final = 1.0
RETRY_FIRST_S: Final = 0.25
RETRY_LAST_S: Final = 10.0

_END_CAUSES: Final = {
    media.SESSION_END_REASON_ROOM_CLOSED: publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED,
    media.SESSION_END_REASON_PARTICIPANT_REMOVED: publication_pb2.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED,
}


class HostedSession:
    """``run()`` hosts the participant for as long as one of its publications is wanted.

    ``restored``: a worker may be there that lost its stream to us when we were restarted.
    """

    def __init__(self, hosting: Hosting, room: str, identity: str, *, restored: bool = False) -> None:
        self.session_id = session_id(room, identity)
        self.room = room
        self.identity = identity
        self.carried = Carried(hosting.book, room, identity, self.kick, hosting.restricted, hosting.push_source)
        self.hearing = Hearing(hosting, room, identity, self._tell)
        self._hosting = hosting
        self._attachment: Attachment | None = None
        self._generation = 0
        """Grows with every dispatch, also over a restart of ours: a worker of an older one is sent away."""
        self._may_return = restored
        """Whether a worker that lost its stream to us may come back by itself."""
        self._stats_interval_s: float | None = None
        self._telling = Telling()
        self._kick = asyncio.Event()
        self._unanswered = False
        """The worker that had it last was told to stop, and did not."""
        self._fruitless = 0
        """Workers that took it, one after the other, and could not join the room."""
        self._placement = Placement(
            hosting.api, hosting.tokens, hosting.own_workers, room, self._wanted, self._kick.set
        )

    def kick(self) -> None:
        """Says that what is wanted has changed."""
        self._kick.set()
        self.hearing.look()
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

    @property
    def elsewhere(self) -> bool:
        """Whether a worker hosts it that this server has not started itself, perhaps on another machine."""
        return self._attachment is not None and not self._placement.local

    def worker_came(self) -> None:
        """A media worker is there that was not, or has a place again: a search that found none is done again."""
        if self._attachment is None:
            self._placement.worker_came()

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

    async def _host(self, live: LiveRoom) -> None:
        guard = asyncio.create_task(self._guard(live), name=f"guard {self.session_id}")
        hearing = asyncio.create_task(self.hearing.follow(live), name=f"hearing {self.session_id}")
        failures = 0
        try:
            while self._wanted():
                if self._attachment is not None:
                    self._may_return, failures = True, 0
                    self._fruitless = 0 if self._shown() else self._fruitless
                    await self._kicked()
                elif not (self._may_return and await self._attached(REATTACH_GRACE_S, self._placement.is_over)):
                    self._may_return = False
                    await self.carried.lost()
                    try:
                        if self._fruitless:
                            await self._pause(self._fruitless)
                        await self._refuse_foreign(live)
                        await self._find_worker(live)
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
            hearing.cancel()
            await asyncio.gather(guard, hearing, return_exceptions=True)

    async def _guard(self, live: LiveRoom) -> None:
        await self.carried.follow(live)
        self._kick.set()

    async def _refuse_foreign(self, live: LiveRoom) -> None:
        participant = live.model.participants.get(self.identity)
        if self._generation:
            # It may have joined a moment ago, which signalling does not tell yet. PublishTrack looked before the first.
            participant = (await roster(self._hosting.api, self.room)).participants.get(self.identity)
        if participant is not None and not hosted(self.room, participant):
            raise IdentityInUse(f"participant {self.identity!r} is in the room and not hosted by this service")

    async def _find_worker(self, live: LiveRoom) -> None:
        """One try. Raises WorkerUnavailable, LimitExceeded, or what LiveKit says."""

        def ticket() -> media.SessionTicket:
            self._generation = max(self._generation + 1, time.time_ns() // 1_000_000)
            return media.SessionTicket(
                session_id=self.session_id,
                generation=self._generation,
                participant_identity=self.identity,
                server_address=self._hosting.server_address,
                room_sid=live.model.sid if live.current else "",
                elsewhere=self._unanswered,
                encrypted=self.carried.encrypted,
                stereo=with_stereo(self.carried.wanted()),
            )

        if self._wanted():
            await self._placement.find(ticket, self._attached, local=self.carried.pushed())

    async def _attached(self, timeout_s: float, unless: Callable[[], bool] = lambda: False) -> bool:
        """Waits for a worker, at most ``timeout_s`` and while ``unless`` does not hold; says whether there is one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._attachment is None and self._wanted() and not unless():
                    await self._kicked()
        return self._attachment is not None

    def _wanted(self) -> bool:
        live = self.carried.live
        return bool(self.carried.wanted()) and not (live is not None and live.closed)

    async def _kicked(self) -> None:
        await self._kick.wait()
        self._kick.clear()

    async def _pause(self, failures: int) -> None:
        delay = min(RETRY_FIRST_S * 2**failures, RETRY_LAST_S) * random.uniform(0.5, 1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while self._wanted() and not self._placement.came.is_set():
                    await self._kicked()
        # It shortens one pause, not every later one too.
        self._placement.came.clear()

    async def _stop(self) -> None:
        """Sends the worker home."""
        if self._attachment is not None:
            await self._attachment.stop()

    async def rejoin(self) -> None:
        """Has the participant leave, and join anew by a worker. One that does not answer is replaced all the same."""
        attachment = self._attachment
        if attachment is not None:
            attachment.leaving = True
        await self.carried.lost("it was asked to be restarted")
        await self._stop()
        if attachment is not None:
            self._unanswered = not attachment.gone.is_set()
            attachment.close()
            self.detach(attachment)
        self._may_return = False
        self._kick.set()

    # The worker.

    async def attach(self, attachment: Attachment, hello: media.SessionHello) -> None:
        """A worker hosts this session now. Raises PublicationEnded where a newer one is dispatched, or none wanted."""
        if hello.generation < self._generation or not self.carried.wanted():
            raise PublicationEnded("the session has moved on")
        self._generation = hello.generation
        self._unanswered = False
        if self._attachment is not None:
            self._attachment.close()
        self._attachment = attachment
        self._telling.worker_lost()
        await self.carried.taken()
        for report in hello.tracks:
            await self.carried.greeted(report)
        self.kick()
        self._hosting.on_audience(self.room)

    def declined(self, hello: media.SessionHello) -> None:
        """A worker that LiveKit has asked is full."""
        if hello.generation == self._generation:
            self._placement.declined(hello)

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
        if report.reason == media.SESSION_END_REASON_CONNECTION_LOST and not self._shown():
            self._fruitless += 1
            await self.carried.trouble(LiveKitUnavailable("the media worker could not join the room"))
        if report.reason == media.SESSION_END_REASON_OTHER_ROOM:
            # Whoever watches the room tells a deleted one from one that LiveKit lost, and will know the new one.
            self._fruitless += 1
        cause = _END_CAUSES.get(report.reason)
        displaced = report.reason == media.SESSION_END_REASON_DUPLICATE_IDENTITY
        if displaced and await is_taken(self._hosting.api, self.room, self.identity):
            cause = publication_pb2.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED
        if cause is not None:
            await self.carried.end_all(cause)
        self._kick.set()

    def _shown(self) -> bool:
        return any(publication.state == LIVE for publication in self.carried.wanted())

    def _tell(self) -> None:
        if self._attachment is not None:
            interval = duration_of(self._stats_interval_s) if self._stats_interval_s is not None else None
            desired = self.carried.desired(interval, self._telling.message, self.hearing.message)
            self._attachment.send(media.AttachResponse(desired=desired))
