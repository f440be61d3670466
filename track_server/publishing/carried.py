"""What one hosted participant carries: its publications, moved through their life cycle as worker and room tell."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

import structlog
from google.protobuf import duration_pb2

from track.media.v1 import media_service_pb2 as media
from track.v1 import error_pb2, publication_pb2
from track.v1.publication_pb2 import Publication, PublicationEndCause
from track_server.errors import LimitExceeded, PublishFailed, TrackError
from track_server.mediachange import digest
from track_server.publishing import attempts, lifecycle
from track_server.publishing.book import Book
from track_server.publishing.entering import encryption_key
from track_server.publishing.lifecycle import ENDED, LIVE, PENDING, RESTARTING, STARTING
from track_server.publishing.progress import has_sid, was_live
from track_server.publishing.retries import Retries
from track_server.publishing.sightings import VANISHED_GRACE_S, Sightings
from track_server.publishing.takeovers import Takeover, Takeovers
from track_server.rooms.model import Binding
from track_server.rooms.permissions import may_publish
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

_UNSEEN: Final = PublishFailed("LiveKit does not show the track: it takes no media of it")


class Carried:
    """The publications of ``identity`` in ``room`` that have not ended. ``live`` is set while the room is watched.

    ``changed`` is called when something else is wanted of the worker. ``restricted``: whether not everybody may
    subscribe to a publication of a room, by room and id. ``push_source``: where the frames of a publication come from,
    by id; None where they are not pushed.
    """

    def __init__(
        self,
        book: Book,
        room: str,
        identity: str,
        changed: Callable[[], None],
        restricted: Callable[[str, str], bool],
        push_source: Callable[[str], media.PushSource | None],
    ) -> None:
        self.live: LiveRoom | None = None
        self._book = book
        self._room = room
        self._identity = identity
        self._changed = changed
        self._restricted = restricted
        self._push_source = push_source
        self._retries = Retries(changed)
        self.takeovers = Takeovers(self._retries)
        self._sightings = Sightings()

    def wanted(self) -> list[Publication]:
        """Those to be published now, oldest first."""
        return self._book.active_of(self._room, self._identity)

    def desired(
        self,
        stats_interval: duration_pb2.Duration | None,
        audience: media.SessionAudience | None,
        hearing: media.SessionHearing | None = None,
    ) -> media.SessionDesired:
        """What the worker is to publish, and to whom, and what it is to hear."""
        return media.SessionDesired(
            tracks=[self._desired(publication) for publication in self.wanted()],
            stats_interval=stats_interval,
            audience=audience,
            encryption_key=encryption_key(map(self._book.whole, self.wanted())),
            hearing=hearing,
        )

    @property
    def encrypted(self) -> bool:
        """Whether a worker needs a key before it joins."""
        return bool(encryption_key(map(self._book.whole, self.wanted())))

    def _desired(self, publication: Publication) -> media.DesiredTrack:
        publication_id = publication.publication_id
        takeover = self.takeovers.find(publication_id)
        return media.DesiredTrack(
            publication_id=publication_id,
            spec=attempts.wanted_now(self._book.whole(publication)),
            muted=publication.muted,
            attempt=self._retries.number(publication_id),
            keep_previous=takeover is not None and takeover.keeps,
            restricted=self._restricted(self._room, publication_id),
            push=self._push_source(publication_id),
            change=self.takeovers.change(publication_id),
            unmute_time_us=self.takeovers.unmute_time_us(publication_id),
        )

    def anew(self, publication_id: str) -> None:
        """Something else is wanted of what is not LIVE: whatever is there or is being tried goes."""
        self.takeovers.end(publication_id)
        self._retries.again(publication_id)

    # What becomes of the worker.

    async def taken(self) -> None:
        """A worker has them now."""
        for publication in self.wanted():
            if publication.state in (PENDING, RESTARTING):
                await self._book.take(lifecycle.untroubled(lifecycle.move(publication, STARTING, now())))

    async def lost(self, why: str = "the media worker was lost") -> None:
        """The worker that had them is gone."""
        for publication in self.wanted():
            self.takeovers.end(publication.publication_id)
            if publication.state in (STARTING, LIVE):
                await self._book.take(lifecycle.move(publication, RESTARTING, now(), why))

    async def trouble(self, error: TrackError) -> None:
        """They have to wait, for that reason. One that nobody was told to wait for ends where the workers are full."""
        log.warning("session_trouble", room=self._room, identity=self._identity, reason=error.message)
        for publication in self.wanted():
            new = not was_live(publication) and not publication.HasField("problem")
            if new and isinstance(error, LimitExceeded):
                await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_FAILED, error.problem())
            elif publication.state != LIVE:
                await self._book.take(lifecycle.troubled(publication, error.problem()))

    def pushed(self) -> bool:
        """Whether one of them has frames that come to this machine: only a worker on it can host them."""
        return any(publication.spec.WhichOneof("input") == "push" for publication in self.wanted())

    async def end_all(self, cause: PublicationEndCause.ValueType, error: TrackError | None = None) -> None:
        """All are over."""
        for publication in self.wanted():
            await self._end(publication, cause, error.problem() if error is not None else None)

    # What the worker tells.

    async def greeted(self, report: media.HostedTrackReport) -> None:
        """What a worker has that stayed while this server was restarted; something else may be wanted since."""
        await self.report(report)
        publication = self._book.find(self._room, report.publication_id)
        if publication is None or publication.state != LIVE or not report.digest:
            return
        if publication.participant_identity != self._identity:
            return
        if report.digest != digest(attempts.wanted_now(self._book.whole(publication))):
            takeover = self.takeovers.begin(publication.publication_id, publication.track_sid, graceful=True)
            takeover.unattended = True

    async def report(self, report: media.HostedTrackReport) -> None:
        """Something changed for a track."""
        publication = self._book.find(self._room, report.publication_id)
        self._book.wake()
        # One session does not speak for another.
        if publication is None or publication.state == ENDED or publication.participant_identity != self._identity:
            return
        latest = self._retries.heard(report.publication_id, report.attempt)
        self.takeovers.heard(report)
        takeover = self.takeovers.find(report.publication_id)
        match report.state:
            case media.HOSTED_TRACK_STATE_FAILED if not latest:
                # Another try is under way.
                pass
            case media.HOSTED_TRACK_STATE_FAILED if takeover and report.previous_track_sid and not takeover.unattended:
                takeover.problem = report.problem if report.HasField("problem") else _unknown_failure()
            case media.HOSTED_TRACK_STATE_PUBLISHED if takeover is not None and takeover.graceful:
                await self._taking_over(publication, takeover, report)
            case media.HOSTED_TRACK_STATE_PUBLISHED if latest:
                self.takeovers.published(report)
                await self._published(publication, report.track_sid)
            case media.HOSTED_TRACK_STATE_SOURCE_ENDED:
                await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_SOURCE_ENDED)
            case media.HOSTED_TRACK_STATE_FAILED:
                await self._failed(publication, report.problem if report.HasField("problem") else _unknown_failure())
            case _:
                pass

    async def _taking_over(self, publication: Publication, takeover: Takeover, report: media.HostedTrackReport) -> None:
        """One track of two is there: while it is LIVE, the old one is known until it is gone."""
        if self.takeovers.published(report) is None:
            # The old one, published once more: the connection to LiveKit was lost.
            takeover.old_sid = report.track_sid
        if publication.state != LIVE or not takeover.new_sid:
            await self._published(publication, report.track_sid)
            return
        self._bind(publication, takeover.new_sid)
        publication = lifecycle.succeeded(publication, takeover.new_sid, now())
        if takeover.unattended and not takeover.released:
            takeover.released = True
            self._changed()
        # Either may have got another SID meanwhile, where the connection to LiveKit was lost.
        publication = lifecycle.left(publication, now(), beside="" if takeover.gone else takeover.old_sid)
        await self._book.take(attempts.with_condition(publication))

    async def _published(self, publication: Publication, track_sid: str) -> None:
        if publication.state in (PENDING, RESTARTING):
            publication = lifecycle.move(publication, STARTING, now())
        self._sightings.moved(publication.publication_id)
        if track_sid:
            self._bind(publication, track_sid)
        await self._book.take(attempts.with_condition(lifecycle.live(publication, track_sid, now())))

    async def _failed(self, publication: Publication, problem: error_pb2.Problem, *, seen: bool = True) -> None:
        """``seen``: whether its track, where it has one, ever was in the room."""
        self.takeovers.end(publication.publication_id)
        if was_live(publication) and problem.reason == error_pb2.ERROR_REASON_TARGET_PERMISSION:
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
            return
        publication = attempts.failed(publication, problem, now(), seen=seen)
        again = attempts.next_try(publication, now(), random.random())
        if again is None:
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_FAILED, problem)
            return
        publication, pause_s = again
        log.info("publishing_again", publication_id=publication.publication_id, reason=problem.message, pause_s=pause_s)
        await self._book.take(lifecycle.troubled(lifecycle.begun_anew(publication, now(), problem.message), problem))
        self._retries.again(publication.publication_id, pause_s)

    async def _end(
        self, publication: Publication, cause: PublicationEndCause.ValueType, problem: error_pb2.Problem | None = None
    ) -> None:
        self._retries.forget(publication.publication_id)
        self.takeovers.forget(publication.publication_id)
        await self._book.take(lifecycle.end(publication, cause, now(), problem=problem))
        self._changed()

    # What the room tells.

    async def follow(self, live: LiveRoom) -> None:
        """Takes over what happens to the tracks in the room, until it is closed."""
        for publication in self.wanted():
            if publication.track_sid:
                self._bind(publication, publication.track_sid)
        loop = asyncio.get_running_loop()
        while not live.closed:
            version = live.version
            waiting = await self._compare(live, loop.time())
            if version != live.version or live.closed:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VANISHED_GRACE_S / 4 if waiting else None):
                    await live.log.changed()

    def _bind(self, publication: Publication, track_sid: str) -> None:
        if self.live is not None:
            self.live.bind(track_sid, Binding(publication.publication_id))

    async def _compare(self, live: LiveRoom, at: float) -> bool:
        """Takes over mutes, and finds tracks that LiveKit took away without a word to the worker. Says whether a
        missing track is given a little time, so that another look is due.
        """
        waiting = False
        for publication in self.wanted():
            # Of data messages the room knows nothing: the worker alone tells of them.
            if publication.state != LIVE or not live.current or not has_sid(publication):
                continue
            track = live.model.tracks.get(publication.track_sid)
            takeover = self.takeovers.find(publication.publication_id)
            old = live.model.tracks.get(takeover.old_sid) if takeover is not None else None
            if track is None:
                # While the old one is there, whoever has it replaced says how long the new one is waited for.
                waiting |= old is None and await self._missing(live, publication, at)
                continue
            muted = self._sightings.muted(publication, track, old)
            # While it stalls the track is muted for that, not by anybody.
            stalled = publication.degraded == publication_pb2.DEGRADED_REASON_STALLED
            if muted != publication.muted and not stalled:
                await self._book.take(lifecycle.muted(publication, muted))
                if old is not None:
                    self._changed()
        return waiting

    async def _missing(self, live: LiveRoom, publication: Publication, at: float) -> bool:
        participant = live.model.participants.get(self._identity)
        if participant is not None and not may_publish(participant, publication.type, publication.spec.source):
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
            return False
        if not self._sightings.vanished(publication, at):
            return True
        if not self._sightings.shown(publication.track_sid):
            await self._failed(publication, _UNSEEN.problem(), seen=False)
        else:
            self.takeovers.end(publication.publication_id)
            await self._book.take(lifecycle.begun_anew(publication, now(), "the track vanished from the room"))
            self._retries.again(publication.publication_id)
        return False


def _unknown_failure() -> error_pb2.Problem:
    return PublishFailed("the track could not be published").problem()
