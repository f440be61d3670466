"""The event log of a room: bounded, with a cursor (epoch, sequence) after every event.

An epoch is one unbroken watch. A new one begins when the watch was away, so a cursor of an old epoch cannot hide a gap.
"""

import asyncio
import re
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Self

from track.v1 import event_pb2
from track_server.errors import InvalidCursor

_CURSOR = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position in a log: after event ``sequence`` of ``epoch``; 0 is before the first."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what ``str()`` wrote. Raises InvalidCursor."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursor("the cursor is not one that this service gave", field="cursor")
        return cls(match[1], int(match[2]))


@dataclass(slots=True)
class Entry:
    """An event with its cursor, serialised once for all the streams that send it."""

    cursor: Cursor
    event: event_pb2.RoomEvent
    _encoded: bytes = b""

    def encoded(self) -> bytes:
        """The event as a serialised WatchEventsResponse."""
        if not self._encoded:
            self._encoded = event_pb2.WatchEventsResponse(cursor=str(self.cursor), event=self.event).SerializeToString()
        return self._encoded


class EventLog:
    """The latest ``limit`` events of the current epoch."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._epoch = secrets.token_hex(6)
        self._sequence = 0
        self._grown = asyncio.Event()

    @property
    def cursor(self) -> Cursor:
        """After the newest event."""
        return Cursor(self._epoch, self._sequence)

    def append(self, event: event_pb2.RoomEvent) -> None:
        """Adds an event and wakes those who wait."""
        self._sequence += 1
        self._entries.append(Entry(Cursor(self._epoch, self._sequence), event))
        self.wake()

    def begin_epoch(self) -> None:
        """Begins anew: something may be missing, so nobody may resume across this point."""
        self._epoch = secrets.token_hex(6)
        self._sequence = 0
        self._entries.clear()
        self.wake()

    def reaches(self, cursor: Cursor) -> bool:
        """Whether every event after ``cursor`` is here."""
        first = self._sequence - len(self._entries)
        return cursor.epoch == self._epoch and first <= cursor.sequence <= self._sequence

    def after(self, cursor: Cursor) -> list[Entry]:
        """The events after a cursor that the log reaches."""
        behind = self._sequence - cursor.sequence
        if behind == 0:
            return []
        return [self._entries[i] for i in range(len(self._entries) - behind, len(self._entries))]

    def wake(self) -> None:
        """Wakes those who wait in ``changed``."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def changed(self) -> None:
        """Returns at the next event, epoch or wake."""
        await self._grown.wait()
