"""The events of all rooms in the store: for streams that come back after the watch, the server or the room ended.

Messages are told first and stored a moment later, many at a time. What was told and then lost in a crash leaves its
epoch without an end; the next one begins with a snapshot, so that the gap is said.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from track.v1 import event_pb2, track_pb2
from track_server.lifetime import Closing
from track_server.rooms.cursor import Cursor, Seal
from track_server.rooms.log import EventLog, Message
from track_server.rooms.room import now
from track_server.store.backlog import Backlog
from track_server.store.journal import Addition, Journal, JournalEntry

KIND: Final = "event"
"""Of the journal."""

_GATHER_S: Final = 0.02
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
        self._backlog = Backlog(self._write, gather_s=_GATHER_S, batch=_WRITE, most=_WAITING, lost="events_not_kept")
        self._burying = asyncio.Lock()

    async def aclose(self) -> None:
        """Writes what waits. May be called twice."""
        await self._backlog.aclose()

    def keep(self, room: str, message: Message) -> None:
        """Has the message of that room written, after those before it. Where the store fails it is lost, and streams
        that would need it get a snapshot.
        """
        self._backlog.keep((room, message))

    async def flush(self) -> None:
        """Returns once all that was to be kept until now is in the store, or was given up."""
        await self._backlog.flush()

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

    async def _write(self, batch: Sequence[tuple[str, Message]]) -> None:
        additions = [
            Addition(room, message.encoded(), message.position.epoch, message.position.sequence)
            for room, message in batch
        ]
        await self._journal.append_all(KIND, additions)
