"""Publishing live tracks again: the new one before the old goes, or in its place."""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Evidence, Publication, Stage
from track.v1.publication_update_pb2 import MediaGap
from track_server.deadline import Deadline
from track_server.errors import NotSupported, PublicationEnded, RestartInProgress
from track_server.livekit.debug import DebugView
from track_server.publishing.book import Book
from track_server.publishing.gaps import GapWatch
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import LIVE
from track_server.publishing.replacement import Replacement, Replacer, Subscribers
from track_server.publishing.routes import HOSTED
from track_server.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Replaced:
    """The publication as it is now, for how long media did not flow (None: not measured), how far it got, and where
    that was seen."""

    publication: Publication
    gap: MediaGap | None
    stage: "Stage.ValueType"
    evidence: "Evidence.ValueType" = publication_pb2.EVIDENCE_UNSPECIFIED


class Replacing:
    """Replaces tracks of this service's own sessions, `async with`. One replacement a publication at a time."""

    def __init__(
        self, rooms: Rooms, book: Book, sessions: Sessions, debug: DebugView | None, subscribers: Subscribers
    ) -> None:
        self._rooms = rooms
        self._book = book
        self._sessions = sessions
        self._debug = debug
        self._subscribers = subscribers
        self._running: dict[str, asyncio.Task[None]] = {}
        # A lock lasts as long as somebody has or awaits it.
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Lets go of what is under way. May be called twice."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
        publication_id = publication.publication_id
        work = Replacement(publication, graceful, before)
        task = asyncio.create_task(self._run(work), name=f"replace {publication_id}")
        self._running[publication_id] = task
        task.add_done_callback(lambda done: self._done(publication_id, done))
        await asyncio.wait([task], timeout=deadline.remaining_s())
        if task.done():
            task.result()
        current = self._book.find(publication.room, publication_id) or publication
        return Replaced(current, work.gap, work.stage, work.evidence)

    async def _run(self, work: Replacement) -> None:
        publication = work.publication
        async with self._rooms.watch(publication.room) as live:
            session = self._sessions.host(publication.room, publication.participant_identity)
            watch = GapWatch(self._debug, publication.room, publication.track_sid, live.watcher_identity)
            async with watch:
                replacer = Replacer(work, self._book, session.carried, live, watch, self._subscribers, session.kick)
                await replacer.run()

    def _done(self, publication_id: str, task: asyncio.Task[None]) -> None:
        del self._running[publication_id]
        if not task.cancelled():
            # Nobody may be there any more to hear of it.
            task.exception()


def _busy() -> RestartInProgress:
    return RestartInProgress("the publication is being changed or restarted", retry_delay_s=1.0)
