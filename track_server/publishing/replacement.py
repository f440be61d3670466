"""One replacement of a live track by another one of the same publication, step by step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Evidence, Publication, Stage
from track.v1.publication_update_pb2 import MediaGap
from track_server.errors import PublicationEnded, PublishFailed, TrackError, error_in
from track_server.publishing import attempts, lifecycle
from track_server.publishing.book import Book
from track_server.publishing.carried import Carried
from track_server.publishing.gaps import GapWatch
from track_server.publishing.lifecycle import ENDED, LIVE, RESTARTING, STARTING
from track_server.publishing.progress import has_sid
from track_server.publishing.spec.kinds import DATA
from track_server.publishing.takeovers import Takeover
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

OVERLAP_S: Final = 2.0
"""Without the debug view nobody sees when subscribers receive the new track: both are there for so long. What was
measured is in docs/publishing.md."""
_RECEIVED_S: Final = 5.0
"""With the debug view, a subscriber that is not sent the new track by then is waited for no longer."""
_MISSED_S: Final = 2.0
"""How long is waited for what tells of a gap."""
_DECODED_S: Final = 1.0
"""From the first packet that LiveKit sends until a picture is decoded. On a busy machine 0.53 s at most were measured
in 20 replacements; a lost packet takes a round trip more."""
_PUBLISHED_S: Final = 30.0
_SHOWN_S: Final = 10.0
_GONE_S: Final = 5.0
_MEASURED_S: Final = 0.5
"""The worker tells of the gap a little after it has told that the old track is gone."""


class Subscribers(Protocol):
    """Who subscribes to publications: carried over from one SID to the next."""

    async def carry(self, live: LiveRoom, publication_id: str, watch: GapWatch) -> None:
        """Has those who were subscribed to the old track of ``watch`` subscribed to the new one, and others not.

        Returns when LiveKit was asked. Raises nothing but CancelledError.
        """


@dataclass(slots=True)
class Replacement:
    """What is to be done, and how far it got. ``before``: whole, as it was before its spec was changed, which it gets
    back where the new track fails; None: the spec is the same."""

    publication: Publication
    graceful: bool
    before: Publication | None = None
    stage: "Stage.ValueType" = publication_pb2.STAGE_REQUESTED
    evidence: "Evidence.ValueType" = publication_pb2.EVIDENCE_UNSPECIFIED
    gap: MediaGap | None = None


class Replacer:
    """Carries one out. ``live``: the room, which is watched; ``watch`` has been entered."""

    def __init__(
        self,
        work: Replacement,
        book: Book,
        carried: Carried,
        live: LiveRoom,
        watch: GapWatch,
        subscribers: Subscribers,
        told: Callable[[], None],
    ) -> None:
        """``told``: has the worker told what is wanted."""
        self._work = work
        self._book = book
        self._carried = carried
        self._live = live
        self._watch = watch
        self._subscribers = subscribers
        self._told = told
        self._id = work.publication.publication_id

    async def run(self) -> None:
        """Returns when it is done. Raises PublicationEnded, and what made the new track fail."""
        if not self._work.graceful:
            # There is no time for it later.
            await self._watch.prepare()
        takeover = self._carried.takeovers.begin(
            self._id, self._work.publication.track_sid, graceful=self._work.graceful
        )
        if not self._work.graceful:
            restarting = lifecycle.move(self._current(), RESTARTING, now(), "it was asked to be restarted")
            await self._book.take(lifecycle.move(restarting, STARTING, now()))
        self._told()
        try:
            await self._published(takeover)
            await self._shown(takeover)
            if self._work.graceful and not takeover.over:
                await self._overlap(takeover)
            elif not self._work.graceful:
                await self._subscribers.carry(self._live, self._id, self._watch)
            self._go_on()
        except BaseException:
            takeover.released = True
            raise
        takeover.released = True
        self._told()
        await self._book.until(lambda: takeover.gone or self._over(takeover), _GONE_S)
        old_sid = takeover.old_sid
        await self._live.until(lambda: self._live.closed or old_sid not in self._live.model.tracks, _GONE_S)
        await self._book.until(lambda: takeover.gap_ms is not None or self._over(takeover), _MEASURED_S)
        self._go_on()
        self._carried.takeovers.end(self._id)
        if self._current().muted:
            # Nothing was to flow, whatever the SDK sends of a muted track.
            return
        if not self._work.graceful:
            await self._watch.until_received(_MISSED_S)
        self._work.gap = self._watch.measured(takeover.gap_ms)

    def _current(self) -> Publication:
        return self._book.find(self._work.publication.room, self._id) or self._work.publication

    def _over(self, takeover: Takeover) -> bool:
        return takeover.over or self._current().state == ENDED

    def _go_on(self) -> None:
        """Raises PublicationEnded, or why it has failed, where it is over: there is no new track then."""
        current = self._current()
        if current.state == ENDED:
            raise _ended(current)

    async def _published(self, takeover: Takeover) -> None:
        """Waits for the new track, also where it takes several tries or another worker; gives up where the old one is
        still there."""

        def settled() -> bool:
            current = self._current()
            new = current.state == LIVE and current.track_sid != takeover.old_sid
            return current.state == ENDED or takeover.problem is not None or bool(takeover.new_sid) or new

        await self._book.until(settled, _PUBLISHED_S)
        self._go_on()
        current = self._current()
        if takeover.problem is not None:
            error: TrackError = error_in(takeover.problem)
        elif takeover.new_sid or (current.state == LIVE and current.track_sid != takeover.old_sid):
            self._work.stage = publication_pb2.STAGE_ACKNOWLEDGED
            return
        else:
            error = PublishFailed("the new track was not published in time")
        if self._work.graceful and not takeover.over:
            await self._give_up(error)
        raise error

    async def _give_up(self, error: TrackError) -> None:
        """The old track stays, as it was."""
        log.info("replacement_failed", publication_id=self._id, reason=error.message)
        takeover = self._carried.takeovers.give_up(self._id)
        current, before = self._current(), self._work.before
        if takeover is not None and takeover.new_sid and current.track_sid == takeover.new_sid:
            current = lifecycle.succeeded(current, takeover.old_sid, now())
            current = lifecycle.left(current, now())
            await self._book.take(current)
        if before is not None and current.state != ENDED:
            await self._book.rewrite(attempts.back_to(current, before))
        self._told()

    async def _shown(self, takeover: Takeover) -> None:
        """Waits for the new track to be in the room; gives up where the old one is still there."""
        live = self._live

        def shown() -> bool:
            current = self._current()
            return current.state == ENDED or (current.track_sid in live.model.tracks if has_sid(current) else True)

        seen = await live.until(shown, _SHOWN_S)
        if not seen and live.current and self._work.graceful and not takeover.over:
            error = PublishFailed("LiveKit does not show the new track")
            await self._give_up(error)
            raise error
        if seen and self._current().state != ENDED:
            self._work.stage = publication_pb2.STAGE_OBSERVED
            sid = has_sid(self._current())
            self._work.evidence = publication_pb2.EVIDENCE_ROOM if sid else publication_pb2.EVIDENCE_HOSTED_SESSION
        self._watch.gaps.new_sid = self._current().track_sid

    async def _overlap(self, takeover: Takeover) -> None:
        """Both tracks are there until the subscribers have the new one, where the old one had not to go first."""
        publication = self._current()
        await self._subscribers.carry(self._live, self._id, self._watch)
        if publication.muted or publication.type == DATA or not self._watch.sees:
            # Nothing to see: nothing is sent, or the view does not show it.
            await self._book.until(lambda: takeover.gone or self._current().state == ENDED, OVERLAP_S)
        elif await self._watch.until_received(_RECEIVED_S):
            if self._watch.gaps.receivers:
                self._work.evidence = publication_pb2.EVIDENCE_DEBUG_VIEW
            await self._book.until(lambda: self._current().state == ENDED, _DECODED_S)


def _ended(publication: Publication) -> TrackError:
    if publication.HasField("problem"):
        return error_in(publication.problem)
    return PublicationEnded("the publication has ended")
