"""What one hosted participant carries: its publications, moved through their life cycle as worker and room tell."""

from collections.abc import Callable
from typing import Final

import structlog
from google.protobuf import duration_pb2

from track.media.v1 import media_service_pb2 as media
from track.v1 import error_pb2, publication_pb2
from track.v1.publication_pb2 import Publication, PublicationEndCause
from track_server.errors import PublishFailed, TrackError
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED, LIVE, PENDING, RESTARTING, STARTING
from track_server.rooms.model import Binding
from track_server.rooms.permissions import may_publish
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 5
"""Tries at a track that was live and cannot be published again, before it ends FAILED."""
VANISHED_GRACE_S: Final = 2.0
"""LiveKit tells of a track that vanished before the worker tells under which SID it came back."""


class Carried:
    """The publications of ``identity`` in ``room`` that have not ended. ``live`` is set while the room is watched.

    ``changed`` is called when something else is wanted of the worker. ``restricted``: whether not everybody may
    subscribe to a publication of a room, by room and id.
    """

    def __init__(
        self,
        book: Book,
        room: str,
        identity: str,
        changed: Callable[[], None],
        restricted: Callable[[str, str], bool],
    ) -> None:
        self.live: LiveRoom | None = None
        self._book = book
        self._room = room
        self._identity = identity
        self._changed = changed
        self._restricted = restricted
        self._attempts: dict[str, int] = {}
        self._vanished_at: dict[str, float] = {}

    def wanted(self) -> list[Publication]:
        """Those to be published now, oldest first."""
        return self._book.active_of(self._room, self._identity)

    def desired(
        self, stats_interval: duration_pb2.Duration | None, audience: media.SessionAudience | None
    ) -> media.SessionDesired:
        """What the worker is to publish, and to whom."""
        return media.SessionDesired(
            tracks=[
                media.DesiredTrack(
                    publication_id=publication.publication_id,
                    spec=self._book.whole(publication).spec,
                    muted=publication.muted,
                    attempt=self._attempts.get(publication.publication_id, 0),
                    restricted=self._restricted(self._room, publication.publication_id),
                )
                for publication in self.wanted()
            ],
            stats_interval=stats_interval,
            audience=audience,
        )

    # What becomes of the worker.

    async def taken(self) -> None:
        """A worker has them now."""
        for publication in self.wanted():
            if publication.state in (PENDING, RESTARTING):
                await self._book.take(lifecycle.untroubled(lifecycle.move(publication, STARTING, now())))

    async def lost(self) -> None:
        """The worker that had them is gone."""
        for publication in self.wanted():
            if publication.state in (STARTING, LIVE):
                await self._book.take(lifecycle.move(publication, RESTARTING, now(), "the media worker was lost"))

    async def trouble(self, error: TrackError) -> None:
        """They have to wait, for that reason."""
        log.warning("session_trouble", room=self._room, identity=self._identity, reason=error.message)
        for publication in self.wanted():
            if publication.state != LIVE:
                await self._book.take(lifecycle.troubled(publication, error.problem()))

    async def end_all(self, cause: PublicationEndCause.ValueType, error: TrackError | None = None) -> None:
        """All are over."""
        for publication in self.wanted():
            await self._end(publication, cause, error.problem() if error is not None else None)

    # What the worker tells.

    async def report(self, report: media.HostedTrackReport) -> None:
        """Something changed for a track."""
        publication = self._book.find(self._room, report.publication_id)
        self._book.wake()
        if publication is None or publication.state == ENDED:
            return
        match report.state:
            case media.HOSTED_TRACK_STATE_PUBLISHED:
                await self._published(publication, report.track_sid)
            case media.HOSTED_TRACK_STATE_SOURCE_ENDED:
                await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_SOURCE_ENDED)
            case media.HOSTED_TRACK_STATE_FAILED:
                await self._failed(publication, report.problem if report.HasField("problem") else _unknown_failure())
            case _:
                pass

    async def _published(self, publication: Publication, track_sid: str) -> None:
        if publication.state in (PENDING, RESTARTING):
            publication = lifecycle.move(publication, STARTING, now())
        self._attempts.pop(publication.publication_id, None)
        # That another SID was missed says nothing of this one.
        self._vanished_at.pop(publication.publication_id, None)
        self._bind(publication, track_sid)
        await self._book.take(lifecycle.live(publication, track_sid, now()))

    async def _failed(self, publication: Publication, problem: error_pb2.Problem) -> None:
        attempts = self._attempts.get(publication.publication_id, 0) + 1
        if publication.lineage and problem.reason == error_pb2.ERROR_REASON_TARGET_PERMISSION:
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
        elif not publication.lineage or attempts >= MAX_ATTEMPTS:
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_FAILED, problem)
        else:
            await self._again(lifecycle.troubled(publication, problem), attempts, problem.message)

    async def _again(self, publication: Publication, attempts: int, why: str) -> None:
        self._attempts[publication.publication_id] = attempts
        if publication.state == LIVE:
            publication = lifecycle.move(publication, RESTARTING, now(), why)
            publication = lifecycle.move(publication, STARTING, now())
        await self._book.take(publication)
        self._changed()

    async def _end(
        self, publication: Publication, cause: PublicationEndCause.ValueType, problem: error_pb2.Problem | None = None
    ) -> None:
        self._attempts.pop(publication.publication_id, None)
        await self._book.take(lifecycle.end(publication, cause, now(), problem=problem))
        self._changed()

    # What the room tells.

    def bind_all(self) -> None:
        """Tells the live room which of its tracks are ours."""
        for publication in self.wanted():
            if publication.track_sid:
                self._bind(publication, publication.track_sid)

    def _bind(self, publication: Publication, track_sid: str) -> None:
        if self.live is not None:
            metadata = publication.spec.metadata if publication.spec.HasField("metadata") else None
            self.live.bind(track_sid, Binding(publication.publication_id, metadata))

    async def compare(self, live: LiveRoom, at: float) -> bool:
        """Takes over mutes, and finds tracks that LiveKit took away without a word to the worker.

        ``at``: the time in seconds. Says whether a missing track is given a little time, so that another look is due.
        """
        waiting = False
        for publication in self.wanted():
            if publication.state != LIVE or not live.current:
                continue
            track = live.model.tracks.get(publication.track_sid)
            if track is None:
                waiting |= await self._missing(live, publication, at)
                continue
            self._vanished_at.pop(publication.publication_id, None)
            if track.muted != publication.muted:
                await self._book.take(lifecycle.muted(publication, track.muted))
        return waiting

    async def _missing(self, live: LiveRoom, publication: Publication, at: float) -> bool:
        participant = live.model.participants.get(self._identity)
        if participant is not None and not may_publish(participant, publication.type, publication.spec.source):
            await self._end(publication, publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
            return False
        if at - self._vanished_at.setdefault(publication.publication_id, at) < VANISHED_GRACE_S:
            return True
        del self._vanished_at[publication.publication_id]
        attempts = self._attempts.get(publication.publication_id, 0) + 1
        await self._again(publication, attempts, "the track vanished from the room")
        return False


def _unknown_failure() -> error_pb2.Problem:
    return PublishFailed("the track could not be published").problem()
