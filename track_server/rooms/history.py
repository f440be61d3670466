"""The events of all rooms in the store: for streams that come back after the watch, the server or the room ended.

Messages are told first and stored a moment later, many at a time. What was told and then lost in a crash leaves its
epoch without an end; the next one begins with a snapshot, so that the gap is said.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

import structlog

from track.v1 import event_pb2, track_pb2
from track_server.lifetime import Closing, Tasks
from track_server.rooms.cursor import Cursor, Seal
from track_server.rooms.log import EventLog, Message
from track_server.rooms.room import now
from track_server.store.journal import Addition, Journal, JournalEntry
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

KIND: Final = "event"
"""Of the journal."""

# So long messages are gathered before they are written: a write is a sync to disk, whatever is in it.
_GATHER_S: Final = 0.02
# Most messages of one write, and most that wait for one: beyond, the store cannot keep up, and new ones are not kept.
_WRITE: Final = 500
_WAITING: Final = 50_000
_PAGE: Final = 100


class CursorLost(Exception):
    """The store does not reach back to the cursor."""


class History(Closing):
    """Writes messages into ``journal`` and reads them again, `async with`."""

    def __init__(self, journal: Journal, seal: Seal) -> None:
        self._journal = journal
        self.seal = seal
        self._waiting: list[tuple[str, Message]] = []
        self._kept = self._done = 0
        """Messages that were to be kept, and those of them that were written or given up."""
        self._failing = False
        self._came = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settled = asyncio.Event()
        self._burying = asyncio.Lock()
        self._tasks = Tasks()
        self._closing = False
        self._writer = self._tasks.begin(self._write_all(), name="event history")

    async def aclose(self) -> None:
        """Writes what waits. May be called twice."""
        self._closing = True
        self._came.set()
        self._hurry.set()
        await asyncio.wait([self._writer])
        await self._tasks.aclose()

    def keep(self, room: str, message: Message) -> None:
        """Has the message of that room written, after those before it."""
        if len(self._waiting) >= _WAITING:
            self._fail("the store is too slow")
            return
        self._waiting.append((room, message))
        self._kept += 1
        self._came.set()

    async def flush(self) -> None:
        """Returns once all that was to be kept until now is in the store, or was given up."""
        goal = self._kept
        while self._done < goal and not self._writer.done():
            self._hurry.set()
            await self._settled.wait()

    async def after(self, room: str, cursor: Cursor) -> AsyncGenerator[Message]:
        """The kept messages of the room after one that was told, in order, up to the newest or to one that is missing.

        Raises CursorLost where the store does not reach back to it, StoreError.
        """
        await self.flush()
        found = await self._journal.find(KIND, room, mark=cursor.epoch, number=cursor.sequence)
        if found is None:
            raise CursorLost
        sequence, position = found.sequence, cursor
        while page := await self._journal.after(KIND, room, sequence=sequence, limit=_PAGE):
            for entry in page:
                message = self._message(room, entry)
                # A number that is not the next is a hole: the store failed for a while. 0 is a snapshot.
                if message.position not in (position.next(), Cursor(entry.mark, 0)):
                    return
                sequence, position = entry.sequence, message.position
                yield message

    async def ends(self, room: str, position: Cursor) -> bool:
        """Whether the message before ``position`` says that the room closed. Raises StoreError."""
        found = await self._journal.find(KIND, room, mark=position.epoch, number=position.sequence)
        return found is not None and found.number == position.sequence and self._message(room, found).last

    async def bury(self, room: str, *, unless: Callable[[], bool]) -> None:
        """Writes that the room, which nobody watched to its end, is no more, once; not where ``unless`` holds.

        Raises StoreError.
        """
        async with self._burying:
            await self.flush()
            newest = await self._journal.newest(KIND, room, before=None, limit=1)
            if unless() or (newest and self._message(room, newest[0]).last):
                return
            away = event_pb2.SNAPSHOT_REASON_WATCHER_AWAY
            freshness = track_pb2.Freshness(source=track_pb2.FRESHNESS_SOURCE_DISCONNECTED, as_of_time=now())
            closed = event_pb2.RoomEvent(time=now(), room_closed=event_pb2.RoomClosed(reason="ROOM_CLOSED"))
            last = EventLog(2, room=room, seal=self.seal, keep=lambda message: self.keep(room, message))
            last.begin_epoch(event_pb2.RoomSnapshot(room=room, reason=away, freshness=freshness))
            last.append(closed)

    def _message(self, room: str, entry: JournalEntry) -> Message:
        position = Cursor(entry.mark, entry.number)
        return Message(position, self.seal.text(room, position), encoded=entry.body)

    async def _write_all(self) -> None:
        while not (self._closing and not self._waiting):
            await self._came.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._hurry.wait()
            self._hurry.clear()
            await self._write()
            if not self._waiting and not self._closing:
                self._came.clear()

    async def _write(self) -> None:
        """Writes the oldest of those that wait."""
        batch, self._waiting = self._waiting[:_WRITE], self._waiting[_WRITE:]
        if not batch:
            return
        try:
            await self._journal.append_all(
                KIND,
                [
                    Addition(room, message.encoded(), message.position.epoch, message.position.sequence)
                    for room, message in batch
                ],
            )
        except StoreError as error:
            self._fail(str(error))
        else:
            self._failing = False
        finally:
            self._done += len(batch)
            settled, self._settled = self._settled, asyncio.Event()
            settled.set()

    def _fail(self, reason: str) -> None:
        """Says, once, that messages are lost; streams that would need them get a snapshot."""
        if not self._failing:
            self._failing = True
            log.warning("events_not_kept", reason=reason)
