"""A hosted session: one participant of one room, that a media worker hosts, and the publications that it carries.

It is a reconciler: while a publication is wanted, there is a worker that is told to publish it; what the worker and the
room tell moves the publications through their life cycle.
"""

import asyncio
import contextlib
import hashlib
import random
import time
from dataclasses import dataclass
from typing import Final

import structlog
from google.protobuf import duration_pb2, json_format

from track.media.v1 import media_service_pb2 as media
from track.v1 import publication_pb2, track_pb2
from track.v1.publication_pb2 import Publication
from track_server.agent import AGENT_NAME, SESSION_ATTRIBUTE
from track_server.errors import (
    IdentityInUse,
    PublicationEnded,
    PublishFailed,
    RoomNotFound,
    TrackError,
    WorkerUnavailable,
    duration_of,
)
from track_server.livekit.api import LiveKitApi
from track_server.publishing import lifecycle
from track_server.publishing.attachment import Attachment
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED, LIVE, PENDING, RESTARTING, STARTING
from track_server.rooms.model import Binding
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

# A worker answers a dispatch within half a second; one that must start a child first takes two or three.
ATTACH_TIMEOUT_S: Final = 4.0
# A session whose stream to us broke tries again at once; one that is dead never does.
REATTACH_GRACE_S: Final = 1.0
# How long a worker that just registered needs for a dispatch that was made shortly before.
JUST_REGISTERED_S: Final = 0.5
STOP_TIMEOUT_S: Final = 3.0
# LiveKit tells of a track that vanished before the worker tells under which SID it came back.
VANISHED_GRACE_S: Final = 2.0
RETRY_FIRST_S: Final = 0.25
RETRY_LAST_S: Final = 10.0
MAX_ATTEMPTS: Final = 5
"""Tries at a track that was live and cannot be published again, before it ends FAILED."""

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


class HostedSession:
    """``run()`` hosts the participant for as long as one of its publications is wanted."""

    def __init__(self, hosting: Hosting, room: str, identity: str, *, restored: bool = False) -> None:
        self.session_id = session_id(room, identity)
        self.room = room
        self.identity = identity
        self._generation = 0
        """Grows with every dispatch, also over a restart of ours: a worker of an older one is sent away."""
        self._may_return = restored
        """Whether a worker may be there that lost its stream to us."""
        self._hosting = hosting
        self._book = hosting.book
        self._attachment: Attachment | None = None
        self._stats_interval_s: float | None = None
        self._attempts: dict[str, int] = {}
        self._vanished_at: dict[str, float] = {}
        self._kick = asyncio.Event()
        self._worker_came = asyncio.Event()
        self._live: LiveRoom | None = None

    def wanted(self) -> list[Publication]:
        """The publications to be published now, oldest first."""
        return self._book.active_of(self.room, self.identity)

    def kick(self) -> None:
        """Says that what is wanted has changed."""
        self._kick.set()
        self._tell()

    def want_stats(self, interval_s: float | None) -> None:
        """Asks the worker for statistics at that interval in seconds, or for none."""
        if interval_s != self._stats_interval_s:
            self._stats_interval_s = interval_s
            self._tell()

    def worker_came(self) -> None:
        """A media worker registered with LiveKit: a dispatch that found none can be made again."""
        if self._attachment is None:
            self._worker_came.set()
            self._kick.set()

    def holds(self, participant: track_pb2.Participant) -> bool:
        """Whether a participant of the room is the one that this session hosts, or a ghost of it."""
        return participant.attributes.get(SESSION_ATTRIBUTE) == self.session_id

    async def run(self) -> None:
        """Hosts until nothing is wanted any more. Raises nothing but CancelledError."""
        failures = 0
        while self.wanted():
            try:
                async with self._hosting.rooms.watch(self.room) as live:
                    self._live = live
                    await self._host(live)
                failures = 0
            except RoomNotFound:
                await self._end_all(publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED)
            except TrackError as error:
                failures += 1
                await self._trouble(error)
                await self._pause(failures)
            finally:
                self._live = None
        await self._stop()

    # Hosting.

    async def _host(self, live: LiveRoom) -> None:
        guard = asyncio.create_task(self._guard(live), name=f"guard {self.session_id}")
        failures = 0
        try:
            while self.wanted() and not live.closed:
                if self._attachment is not None:
                    self._may_return, failures = True, 0
                    await self._kicked()
                elif not (self._may_return and await self._attached(REATTACH_GRACE_S)):
                    self._may_return = False
                    self._refuse_foreign(live)
                    try:
                        await self._dispatch()
                    except TrackError as error:
                        failures += 1
                        await self._trouble(error)
                        await self._pause(failures)
            if live.closed:
                await self._end_all(publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED)
        except IdentityInUse as error:
            await self._end_all(publication_pb2.PUBLICATION_END_CAUSE_FAILED, error)
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    def _refuse_foreign(self, live: LiveRoom) -> None:
        participant = live.model.participants.get(self.identity)
        if participant is not None and not self.holds(participant):
            raise IdentityInUse(f"participant {self.identity!r} is in the room and not hosted by this service")

    async def _dispatch(self) -> None:
        """One try to find a worker. Raises WorkerUnavailable, or what LiveKit says."""
        for publication in self.wanted():
            if publication.state in (STARTING, LIVE):
                await self._book.save(lifecycle.move(publication, RESTARTING, now(), "the media worker was lost"))
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
                while self._attachment is None and self.wanted():
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
                while self.wanted() and not self._worker_came.is_set():
                    await self._kicked()

    async def _stop(self) -> None:
        """Sends the worker home."""
        attachment = self._attachment
        if attachment is None:
            return
        attachment.send(media.AttachResponse(stop=media.SessionStop()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await attachment.gone.wait()

    # What the worker tells.

    async def attach(self, attachment: Attachment, hello: media.SessionHello) -> None:
        """A worker hosts this session now. Raises PublicationEnded where a newer one was dispatched, or none is wanted."""
        if hello.generation < self._generation or not self.wanted():
            raise PublicationEnded("the session has moved on")
        self._generation = hello.generation
        if self._attachment is not None:
            self._attachment.close()
        self._attachment = attachment
        self._worker_came.clear()
        for publication in self.wanted():
            if publication.state in (PENDING, RESTARTING):
                await self._book.save(lifecycle.move(publication, STARTING, now()))
        for report in hello.tracks:
            await self.report(report)
        self.kick()

    def detach(self, attachment: Attachment) -> None:
        """The worker's stream is gone."""
        if self._attachment is attachment:
            self._attachment = None
            self._kick.set()

    async def report(self, report: media.HostedTrackReport) -> None:
        """Something changed for a track."""
        publication = self._book.find(self.room, report.publication_id)
        self._book.wake()
        if publication is None or publication.state == ENDED:
            return
        match report.state:
            case media.HOSTED_TRACK_STATE_PUBLISHED:
                await self._published(publication, report.track_sid)
            case media.HOSTED_TRACK_STATE_SOURCE_ENDED:
                await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_SOURCE_ENDED)
            case media.HOSTED_TRACK_STATE_FAILED:
                await self._failed(publication, report)
            case _:
                pass

    async def ended(self, report: media.SessionEnded) -> None:
        """The worker's session is over."""
        log.info(
            "session_ended",
            room=self.room,
            identity=self.identity,
            reason=media.SessionEndReason.Name(report.reason),
            detail=report.detail,
        )
        self._may_return = False
        cause = _END_CAUSES.get(report.reason)
        if cause is not None:
            await self._end_all(cause)
        elif report.reason == media.SESSION_END_REASON_DUPLICATE_IDENTITY and self._taken_over():
            await self._end_all(publication_pb2.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED)

    def _taken_over(self) -> bool:
        participant = self._live.model.participants.get(self.identity) if self._live is not None else None
        return participant is not None and not self.holds(participant)

    async def _published(self, publication: Publication, track_sid: str) -> None:
        if publication.state in (PENDING, RESTARTING):
            publication = lifecycle.move(publication, STARTING, now())
        self._attempts.pop(publication.publication_id, None)
        self._bind(publication, track_sid)
        await self._book.save(lifecycle.live(publication, track_sid, now()))

    def _bind(self, publication: Publication, track_sid: str) -> None:
        if self._live is not None:
            metadata = publication.spec.metadata if publication.spec.HasField("metadata") else None
            self._live.bind(track_sid, Binding(publication.publication_id, metadata))

    async def _failed(self, publication: Publication, report: media.HostedTrackReport) -> None:
        attempts = self._attempts.get(publication.publication_id, 0) + 1
        if not publication.lineage or attempts >= MAX_ATTEMPTS:
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_FAILED, report)
            return
        self._attempts[publication.publication_id] = attempts
        if publication.state == LIVE:
            publication = lifecycle.move(publication, RESTARTING, now(), report.problem.message)
            publication = lifecycle.move(publication, STARTING, now())
        await self._book.save(lifecycle.troubled(publication, report.problem))
        self._tell()

    async def _end(
        self,
        publication: Publication,
        cause: publication_pb2.PublicationEndCause.ValueType,
        report: media.HostedTrackReport | None = None,
    ) -> None:
        problem = report.problem if report is not None and report.HasField("problem") else None
        if problem is None and cause == publication_pb2.PUBLICATION_END_CAUSE_FAILED:
            problem = PublishFailed("the track could not be published").problem()
        await self._book.save(lifecycle.end(publication, cause, now(), problem=problem))
        self.kick()

    async def _end_all(
        self, cause: publication_pb2.PublicationEndCause.ValueType, error: TrackError | None = None
    ) -> None:
        problem = error.problem() if error is not None else None
        for publication in self.wanted():
            await self._book.save(lifecycle.end(publication, cause, now(), problem=problem))
        self.kick()

    async def _trouble(self, error: TrackError) -> None:
        log.warning("session_trouble", room=self.room, identity=self.identity, reason=error.message)
        for publication in self.wanted():
            if publication.state != LIVE:
                await self._book.save(lifecycle.troubled(publication, error.problem()))

    # What we tell the worker.

    def _tell(self) -> None:
        if self._attachment is None:
            return
        interval = duration_of(self._stats_interval_s) if self._stats_interval_s is not None else None
        self._attachment.send(media.AttachResponse(desired=self._desired(interval)))

    def _desired(self, stats_interval: duration_pb2.Duration | None) -> media.SessionDesired:
        return media.SessionDesired(
            tracks=[
                media.DesiredTrack(
                    publication_id=publication.publication_id,
                    spec=publication.spec,
                    muted=publication.muted,
                    attempt=self._attempts.get(publication.publication_id, 0),
                )
                for publication in self.wanted()
            ],
            stats_interval=stats_interval,
        )

    # What the room tells.

    async def _guard(self, live: LiveRoom) -> None:
        """Follows the room: mutes, and tracks that LiveKit took away without a word to the worker."""
        for publication in self.wanted():
            if publication.track_sid:
                self._bind(publication, publication.track_sid)
        loop = asyncio.get_running_loop()
        while True:
            waiting = False
            for publication in self.wanted():
                if publication.state == LIVE and live.current:
                    waiting |= await self._compare(live, publication, loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VANISHED_GRACE_S / 4 if waiting else None):
                    await live.log.changed()
            if live.closed:
                self._kick.set()

    async def _compare(self, live: LiveRoom, publication: Publication, at: float) -> bool:
        """Whether the track is missing and is given a little time."""
        track = live.model.tracks.get(publication.track_sid)
        if track is not None:
            self._vanished_at.pop(publication.publication_id, None)
            if track.muted != publication.muted:
                await self._book.save(lifecycle.muted(publication, track.muted))
            return False
        participant = live.model.participants.get(self.identity)
        if participant is not None and not _may_publish(participant, publication):
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
            return False
        if at - self._vanished_at.setdefault(publication.publication_id, at) < VANISHED_GRACE_S:
            return True
        del self._vanished_at[publication.publication_id]
        self._attempts[publication.publication_id] = self._attempts.get(publication.publication_id, 0) + 1
        restarting = lifecycle.move(publication, RESTARTING, now(), "the track vanished from the room")
        await self._book.save(lifecycle.move(restarting, STARTING, now()))
        self._tell()
        return False


def session_id(room: str, identity: str) -> str:
    """Id of the session that hosts ``identity`` in ``room``: always the same, so that a ghost of it is known as ours."""
    digest = hashlib.blake2b(f"{len(room)}:{room}{identity}".encode(), digest_size=12)
    return f"SES_{digest.hexdigest()}"


def _may_publish(participant: track_pb2.Participant, publication: Publication) -> bool:
    allowed = participant.permission
    if publication.type == track_pb2.TRACK_TYPE_DATA:
        return allowed.can_publish_data
    sources = allowed.can_publish_sources
    return allowed.can_publish and (not sources or publication.spec.source in sources)
