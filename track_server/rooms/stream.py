"""The event stream of a room: a snapshot, then every event; a gap is told by another snapshot."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Final, TypeAlias

import structlog

from track.v1 import event_pb2
from track_server.errors import RoomNotFound
from track_server.rooms.cursor import Cursor
from track_server.rooms.history import CursorLost, History
from track_server.rooms.log import Message
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

Reason: TypeAlias = "event_pb2.SnapshotReason.ValueType"

_INITIAL: Final = event_pb2.SNAPSHOT_REASON_INITIAL
_EXPIRED: Final = event_pb2.SNAPSHOT_REASON_CURSOR_EXPIRED
_UNKNOWN: Final = event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN
_SLOW: Final = event_pb2.SNAPSHOT_REASON_READER_SLOW


async def follow(rooms: Rooms, name: str, cursor: str = "") -> AsyncGenerator[Message]:
    """The room's messages after ``cursor`` (empty: from a snapshot on) until the room closes.

    Of a room that is no more, the rest of what is kept after the cursor, its end included. Raises InvalidCursor,
    RoomNotFound, LiveKitUnavailable, LiveKitCredentials.
    """
    position = rooms.seal.read(name, cursor) if cursor else None
    async with contextlib.AsyncExitStack() as stack:
        try:
            live = await stack.enter_async_context(rooms.watch(name))
        except RoomNotFound as missing:
            if position is None or rooms.history is None:
                raise
            messages = _ended(rooms, rooms.history, name, position, missing)
        else:
            stream = _LiveStream(live, rooms.history)
            fresh = stream.begun(_UNKNOWN if cursor else _INITIAL)
            messages = fresh if position is None else stream.resumed(position)
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield message


async def _ended(
    rooms: Rooms, history: History, name: str, position: Cursor, missing: RoomNotFound
) -> AsyncGenerator[Message]:
    """What is kept of a room that LiveKit does not have, after ``position``, and its end.

    Raises ``missing`` where the store does not reach back to it.
    """
    try:
        for _ in range(2):
            async with contextlib.aclosing(history.after(name, position)) as kept:
                async for message in kept:
                    yield message
                    position = message.position
                    if message.last:
                        return
            if await history.ends(name, position):
                return
            # Nobody watched it to its end.
            await history.bury(name, unless=lambda: name in rooms)
    except (CursorLost, StoreError) as error:
        raise missing from error
    # It was made again meanwhile, or the store fails.
    raise missing


class _LiveStream:
    """A stream of a watched room."""

    def __init__(self, live: LiveRoom, history: History | None) -> None:
        self._live = live
        self._log = live.log
        self._history = history
        self._place = 0
        """Of the message to be told next, in the room's log."""

    async def begun(self, reason: Reason) -> AsyncGenerator[Message]:
        """From a snapshot on."""
        await self._stored()
        yield self._snapshot(reason)
        async for message in self._on():
            yield message

    async def resumed(self, position: Cursor) -> AsyncGenerator[Message]:
        """From that position on: out of the log, or out of the store until the log has the rest."""
        reason = _EXPIRED
        place = self._log.place_after(position)
        if place is None and self._history is not None:
            try:
                async with contextlib.aclosing(self._history.after(self._live.name, position)) as kept:
                    async for message in kept:
                        yield message
                        if message.last:
                            return
                        reason = _SLOW
                        if (place := self._log.place_after(message.position)) is not None:
                            break
            except CursorLost:
                pass
            except StoreError as error:
                log.warning("events_not_read", room=self._live.name, reason=str(error))
        if place is None:
            yield self._snapshot(reason)
        else:
            self._place = place
        async for message in self._on():
            yield message

    async def _on(self) -> AsyncGenerator[Message]:
        """From the place on, until the room closes."""
        while True:
            while (message := self._log.at(self._place)) is not None:
                self._place += 1
                if message.snapshot is not None:
                    await self._stored()
                yield message
            if self._place < self._log.first:
                yield self._snapshot(_SLOW)
            elif self._live.closed:
                return
            else:
                await self._log.changed()

    async def _stored(self) -> None:
        """An epoch of which something is told is known after a crash."""
        if self._history is not None:
            await self._history.flush()

    def _snapshot(self, reason: Reason) -> Message:
        """The room now; the place moves after it."""
        self._place = self._log.end
        return Message(self._log.cursor, self._log.text, snapshot=self._live.snapshot(reason))
