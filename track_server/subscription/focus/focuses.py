"""The focuses: the one owner of them, in memory and in the store, and of what is in them now."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Final
from weakref import WeakValueDictionary

import structlog

from track.v1 import event_pb2
from track.v1.subscription_pb2 import Focus, FocusChanged, FocusedTrack
from track_server.errors import Draining, LimitExceeded, RoomNotFound, TrackNotFound
from track_server.lifetime import Closing, Tasks
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import Store, StoreError
from track_server.subscription.focus.held import HeldFocuses
from track_server.subscription.focus.kept import Kept
from track_server.subscription.focus.view import FocusView

log = structlog.get_logger(__name__)

_KIND: Final = "focus"

Listener = Callable[[str, str], None]
"""Room, and the subscriber whose view is another one now; empty: of all that have no focus of their own."""


class Focuses(Closing):
    """All focuses by room, `async with`. A Stake of ``lives``; ``spoke`` is told by ``rooms``.

    ``most``: focuses that a room may have.
    """

    def __init__(self, rooms: Rooms, store: Store, lives: Lives, *, most: int) -> None:
        self._rooms = rooms
        self._store = store
        self._lives = lives
        self._most = most
        self._held: dict[str, HeldFocuses] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._listeners: list[Listener] = []
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of all rooms; the focuses stay. May be called twice."""
        for room in list(self._held):
            self._drop(room)
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(_KIND):
            try:
                kept = Kept.decoded(record.body)
            except (KeyError, TypeError, ValueError):
                log.exception("focus_not_read", room=record.room, identity=record.key)
                continue
            self._of(record.room).put(record.key, kept)

    # Reading.

    def rooms(self) -> Sequence[str]:
        """Rooms that have any."""
        return list(self._held)

    def concerns(self, room: str) -> bool:
        """Whether the room has any."""
        return room in self._held

    def find(self, room: str, identity: str) -> Focus | None:
        """The subscriber's own, or with an empty identity the room's. Never to be changed in place."""
        held = self._held.get(room)
        return held.focus(identity) if held is not None else None

    def view(self, room: str, identity: str) -> FocusView | None:
        """What holds for the subscriber now, its own tracks left out; None where there is no focus. Never waits."""
        held = self._held.get(room)
        return held.view(identity) if held is not None else None

    def tracks(self, room: str, identity: str) -> list[FocusedTrack]:
        """What is in focus for the subscriber now, first to last."""
        held = self._held.get(room)
        return held.tracks(identity) if held is not None else []

    def contribute(self, room: str, snapshot: event_pb2.RoomSnapshot) -> None:
        """Fills in the room's focuses: its own first, then those of subscribers by identity."""
        if (held := self._held.get(room)) is not None:
            snapshot.focuses.extend(held.kept[identity].focus for identity in sorted(held.kept))

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` whenever a view changed. It must neither wait nor raise."""
        self._listeners.append(listener)

    # What callers do.

    def met(self, live: LiveRoom) -> None:
        """The room is watched: what an earlier run left is followed in it, or ends where it is another room by now."""
        self._lives.watched(live)

    def require_place(self, room: str, identity: str) -> None:
        """Raises LimitExceeded where there is none for one more."""
        held = self._held.get(room)
        if self.find(room, identity) is None and len(held.kept if held is not None else ()) >= self._most:
            raise LimitExceeded("max_focuses_per_room", self._most, f"room {room}")

    async def put(self, live: LiveRoom, focus: Focus, cause: event_pb2.EventCause) -> Focus:
        """Sets it, in the place of the one before; it is stored then, and holds. Returns it as it is kept.

        ``focus``: checked. Raises LimitExceeded, StoreError, TrackNotFound where a track is gone meanwhile, and
        RoomNotFound where the room is; then all is as before. Once begun it is finished, though the caller is gone.
        """
        return await asyncio.shield(self._tasks.begin(self._put(live, focus, cause), name="set focus"))

    async def _put(self, live: LiveRoom, focus: Focus, cause: event_pb2.EventCause) -> Focus:
        room, identity = live.name, focus.participant_identity
        async with self._turn(room):
            self.require_place(room, identity)
            stamped = Focus()
            stamped.CopyFrom(focus)
            stamped.update_time.FromNanoseconds(time.time_ns())
            try:
                kept = Kept.of(stamped, live.model.tracks)
            except KeyError as error:
                raise TrackNotFound(f"track {error.args[0]!r} is not in the room any more", field="focus") from None
            await self._lives.want(live)
            await self._store.put(_KIND, room, identity, kept.encoded())
            if live.closed:
                await self._store.delete(_KIND, room, identity)
                raise RoomNotFound(f"room {room!r} was closed", field="room")
            held = self._of(room)
            # Followed from now on, which looks at who is there.
            self._lives.held(live)
            held.look(live)
            changed = held.put(identity, kept)
            self._announce(room, identity, cause)
            self._tell(room, changed | {identity})
        return kept.focus

    async def clear(self, room: str, identity: str, cause: event_pb2.EventCause) -> Focus | None:
        """Takes it away, also out of the store; returns it as it was, None where there was none. Raises StoreError.

        Once begun it is finished, though the caller is gone.
        """
        return await asyncio.shield(self._tasks.begin(self._clear(room, identity, cause), name="clear focus"))

    async def _clear(self, room: str, identity: str, cause: event_pb2.EventCause) -> Focus | None:
        async with self._turn(room):
            if self.find(room, identity) is None:
                return None
            await self._store.delete(_KIND, room, identity)
            # The room may have ended meanwhile.
            held, last = self._held.get(room), self.find(room, identity)
            if held is None or last is None:
                return None
            changed = held.drop(identity)
            if not held.kept:
                self._drop(room)
                self._lives.settle(room)
            gone = FocusChanged(focus=Focus(room=room, participant_identity=identity))
            self._rooms.announce(room, event_pb2.RoomEvent(focus_changed=gone, cause=cause))
            self._tell(room, changed | {identity})
            return last

    # What happens by itself.

    def look(self, live: LiveRoom) -> None:
        """See Stake."""
        if (held := self._held.get(live.name)) is not None:
            held.look(live)

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """See Stake."""
        if (held := self._held.get(live.name)) is not None:
            held.happened(live, event)

    def spoke(self, room: str) -> None:
        """Who spoke last is another one. See the class."""
        if (held := self._held.get(room)) is not None:
            held.spoke()

    def ended(self, room: str) -> None:
        """See Stake."""
        held = self._drop(room)
        if held is not None:
            for identity in held.kept:
                self._spawn(self._delete(room, identity))
            self._tell(room, held.kept.keys() | {""})

    def _changed(self, room: str, changed: set[str]) -> None:
        held = self._held.get(room)
        for identity in sorted(changed & held.kept.keys() if held is not None else ()):
            self._announce(room, identity)
        self._tell(room, changed)

    def _announce(self, room: str, identity: str, cause: event_pb2.EventCause | None = None) -> None:
        change = FocusChanged(focus=self.find(room, identity), tracks=self.tracks(room, identity))
        self._rooms.announce(room, event_pb2.RoomEvent(focus_changed=change, cause=cause))

    def _tell(self, room: str, changed: Iterable[str]) -> None:
        for identity in sorted(changed):
            for listener in self._listeners:
                listener(room, identity)

    # Keeping.

    def _of(self, room: str) -> HeldFocuses:
        held = self._held.get(room)
        if held is None:
            held = self._held[room] = HeldFocuses(
                functools.partial(self._changed, room), lambda identity: self._spawn(self._keep(room, identity))
            )
        return held

    def _drop(self, room: str) -> HeldFocuses | None:
        held = self._held.pop(room, None)
        if held is not None:
            held.close()
        return held

    async def _keep(self, room: str, identity: str) -> None:
        """A focus names another SID."""
        async with self._turn(room):
            held = self._held.get(room)
            if held is not None and (kept := held.kept.get(identity)) is not None:
                await self._store.put(_KIND, room, identity, kept.encoded())

    async def _delete(self, room: str, identity: str) -> None:
        """Its room has ended."""
        async with self._turn(room):
            if self.find(room, identity) is None:
                await self._store.delete(_KIND, room, identity)

    def _turn(self, room: str) -> asyncio.Lock:
        """Held by whoever writes a focus of the room."""
        turn = self._turns.get(room)
        if turn is None:
            turn = self._turns[room] = asyncio.Lock()
        return turn

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("focus_not_stored", reason=str(error))

        with contextlib.suppress(Draining):
            self._tasks.spawn(run(), name="keep focus")
