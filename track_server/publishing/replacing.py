"""Publishing live tracks again: the new one before the old goes, or in its place."""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Evidence, Publication, Stage
from track.v1.publication_update_pb2 import MediaGap
from track_server.deadline import Deadline
from track_server.errors import NotSupported, PublicationEnded, RestartInProgress
from track_server.lifetime import Closing, Tasks
from track_server.livekit.debug import DebugView
from track_server.publishing.book import Book
from track_server.publishing.gaps import GapWatch
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import LIVE
from track_server.publishing.replacement import Replacement, Replacer, Subscribers
from track_server.publishing.routes import HOSTED
from track_server.rooms.rooms import Rooms

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replaced:
    """The publication as it is now, for how long media did not flow (None: not measured), how far it got, and where
    that was seen."""

    publication: Publication
    gap: MediaGap | None
    stage: "Stage.ValueType"
    evidence: "Evidence.ValueType" = publication_pb2.EVIDENCE_UNSPECIFIED


class Replacing(Closing):
    """Replaces tracks of this service's own sessions, `async with`. One change a publication at a time, of whatever
    route."""

    def __init__(
        self, rooms: Rooms, book: Book, sessions: Sessions, debug: DebugView | None, subscribers: Subscribers
    ) -> None:
        self._rooms = rooms
        self._book = book
        self._sessions = sessions
        self._debug = debug
        self._subscribers = subscribers
        self._tasks = Tasks()
        self._running: dict[str, asyncio.Task[Any]] = {}
        # A lock lasts as long as somebody has or awaits it.
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def aclose(self) -> None:
        """Lets go of what is under way. May be called twice."""
        await self._tasks.aclose()

    @contextlib.asynccontextmanager
    async def turn(self, publication_id: str, deadline: Deadline) -> AsyncIterator[None]:
        """For its span nobody else replaces the publication. Raises RestartInProgress where the deadline is first."""
        lock = self._turns.get(publication_id)
        if lock is None:
            lock = self._turns[publication_id] = asyncio.Lock()
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                await lock.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            running = self._running.get(publication_id)
            if running is not None:
                await asyncio.wait([running], timeout=deadline.remaining_s())
                if not running.done():
                    raise _busy()
            yield
        finally:
            lock.release()

    async def replace(self, publication: Publication, deadline: Deadline, *, graceful: bool) -> Replaced:
        """Has a LIVE publication published again. What was begun goes on after the deadline, and if it is cancelled.

        ``graceful``: the old track goes when the subscribers receive the new one; where the new one fails, the old one
        stays. Raises NotSupported where the publication is not HOSTED, PublicationEnded where it is not LIVE or ends,
        RestartInProgress, and what made the new track fail.
        """
        async with self.turn(publication.publication_id, deadline):
            current = self._book.find(publication.room, publication.publication_id)
            if current is None or current.state != LIVE:
                raise PublicationEnded("the publication is not live")
            return await self.replace_in_turn(current, deadline, graceful=graceful)

    async def replace_in_turn(
        self, publication: Publication, deadline: Deadline, *, graceful: bool, before: Publication | None = None
    ) -> Replaced:
        """``replace`` for who has the turn. ``before``: whole, what it was before its spec was changed in the Book: it
        gets that back where the new track fails."""
        if publication.route != HOSTED:
            raise NotSupported("only what this service itself publishes is replaced by it", field="publication_id")
        work = Replacement(publication, graceful, before)
        task = self.begin(publication.publication_id, self._run(work))
        await asyncio.wait([task], timeout=deadline.remaining_s())
        if task.done():
            task.result()
        current = self._book.find(publication.room, publication.publication_id) or publication
        return Replaced(current, work.gap, work.stage, work.evidence)

    def begin(self, publication_id: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begins it for who has the turn. It goes on whoever waits for it, and the next turn comes after it."""
        task = self._tasks.begin(work, name=f"change {publication_id}")
        self._running[publication_id] = task
        task.add_done_callback(lambda _: self._running.pop(publication_id))
        return task

    async def _run(self, work: Replacement) -> None:
        publication = work.publication
        async with self._rooms.watch(publication.room) as live:
            session = self._sessions.host(publication.room, publication.participant_identity)
            watch = GapWatch(self._debug, publication.room, publication.track_sid, live.watcher_identity)
            async with watch:
                replacer = Replacer(work, self._book, session.carried, live, watch, self._subscribers, session.kick)
                await replacer.run()


def _busy() -> RestartInProgress:
    return RestartInProgress("the publication is being changed or restarted", retry_delay_s=1.0)
