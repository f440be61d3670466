"""The newest messages of a watched room, in memory: bounded by number and size, over all epochs of the watch."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from track.v1 import event_pb2
from track_server.pulse import Pulse
from track_server.rooms.cursor import Cursor, Seal

MAX_BYTES: Final = 16 << 20
"""Bytes of messages kept of a room where no other bound is given."""


class Message:
    """One message of a room's stream: an event or a snapshot, with the cursor after it; serialised once for all.

    ``text``: the cursor as callers get it.
    """

    __slots__ = ("_encoded", "_event", "_snapshot", "position", "text")

    def __init__(
        self,
        position: Cursor,
        text: str,
        *,
        event: event_pb2.RoomEvent | None = None,
        snapshot: event_pb2.RoomSnapshot | None = None,
        encoded: bytes = b"",
    ) -> None:
        self.position = position
        self.text = text
        self._event = event
        self._snapshot = snapshot
        self._encoded = encoded

    @property
    def event(self) -> event_pb2.RoomEvent | None:
        """The event; None where it is a snapshot."""
        self._read()
        return self._event

    @property
    def snapshot(self) -> event_pb2.RoomSnapshot | None:
        """The snapshot; None where it is an event."""
        self._read()
        return self._snapshot

    @property
    def last(self) -> bool:
        """Whether nothing of its room comes after it."""
        event = self.event
        return event is not None and event.HasField("room_closed")

    def encoded(self) -> bytes:
        """As a serialised WatchEventsResponse. What is serialised after it adds to the same message."""
        if not self._encoded:
            response = event_pb2.WatchEventsResponse(cursor=self.text, event=self._event, snapshot=self._snapshot)
            self._encoded = response.SerializeToString()
        return self._encoded

    def _read(self) -> None:
        """Reads what was kept serialised alone."""
        if self._event is None and self._snapshot is None:
            response = event_pb2.WatchEventsResponse.FromString(self._encoded)
            if response.HasField("event"):
                self._event = response.event
            else:
                self._snapshot = response.snapshot


@dataclass(slots=True)
class _Epoch:
    """Where an epoch lies: place of its message 0, and the newest message's sequence."""

    base: int
    last: int


class EventLog:
    """The latest ``limit`` messages, at most ``max_bytes`` of them in all. Places count the messages of its life.

    ``keep``, where given, is told of each message.
    """

    def __init__(
        self,
        limit: int,
        *,
        room: str = "",
        seal: Seal | None = None,
        max_bytes: int = MAX_BYTES,
        keep: Callable[[Message], None] | None = None,
    ) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._room = room
        self._seal = seal or Seal()
        self._keep = keep
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._dropped = 0
        self._epochs: dict[str, _Epoch] = {}
        self._cursor: Cursor | None = None
        self._grown = Pulse()

    @property
    def cursor(self) -> Cursor:
        """After the newest message; there is none before the first epoch."""
        assert self._cursor is not None
        return self._cursor

    @property
    def text(self) -> str:
        """The cursor as callers get it."""
        return self._seal.text(self._room, self.cursor)

    @property
    def first(self) -> int:
        """Place of the oldest message kept."""
        return self._dropped

    @property
    def end(self) -> int:
        """Place of the message to come."""
        return self._dropped + len(self._messages)

    def begin_epoch(self, snapshot: event_pb2.RoomSnapshot) -> None:
        """Begins anew with the whole room: something may be missing before it."""
        self._cursor = Cursor.first()
        self._epochs[self._cursor.epoch] = _Epoch(self.end, 0)
        self._add(Message(self._cursor, self.text, snapshot=snapshot))

    def append(self, event: event_pb2.RoomEvent) -> None:
        """Adds an event and wakes those who wait. Before the first epoch there is nobody to tell."""
        if self._cursor is None:
            self.wake()
            return
        self._cursor = self._cursor.next()
        self._epochs[self._cursor.epoch].last = self._cursor.sequence
        self._add(Message(self._cursor, self.text, event=event))

    def place_after(self, cursor: Cursor) -> int | None:
        """Where to go on after that cursor; None where it was not told here or something after it is gone."""
        epoch = self._epochs.get(cursor.epoch)
        if epoch is None or cursor.sequence > epoch.last:
            return None
        place = epoch.base + cursor.sequence + 1
        return place if place >= self.first else None

    def at(self, place: int) -> Message | None:
        """The message of that place; None where it is gone or still to come."""
        return self._messages[place - self._dropped] if self.first <= place < self.end else None

    def wake(self) -> None:
        """Wakes those who wait in ``changed``."""
        self._grown.beat()

    async def changed(self) -> None:
        """Returns at the next message or wake."""
        await self._grown.wait()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks when ``changed`` does. Says whether it does."""
        return await self._grown.until(condition, timeout_s)

    def _add(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += len(message.encoded())
        while len(self._messages) > self._limit or self._bytes > self._max_bytes:
            gone = self._messages.popleft()
            self._dropped += 1
            self._bytes -= len(gone.encoded())
            epoch = self._epochs[gone.position.epoch]
            if epoch.last == gone.position.sequence and epoch is not self._epochs[self.cursor.epoch]:
                del self._epochs[gone.position.epoch]
        if self._keep is not None:
            self._keep(message)
        self.wake()
