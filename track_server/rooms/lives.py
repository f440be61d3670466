"""The rooms in which a capability holds something: kept watched, and known from later rooms of the same name."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from track.v1 import event_pb2
from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

RETURN_S: Final = 300.0
"""A room of another SID is the same one where it was seen so long ago at most: LiveKit gives a room another SID when it
is restarted, and may have been away together with this server. LiveKit's default `empty_timeout`."""

_SEEN_INTERVAL_S: Final = 30.0


class Stake(Protocol):
    """What is held in rooms. Its methods neither wait nor raise."""

    def rooms(self) -> Sequence[str]:
        """Rooms in which something is held."""

    def concerns(self, room: str) -> bool:
        """Whether something is held in the room."""

    def look(self, live: LiveRoom) -> None:
        """The room is watched: looks at all that is in it."""

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """LiveKit changed something in the room."""

    def ended(self, room: str) -> None:
        """The room has ended, and with it all that is held in it."""


class Lives(Closing):
    """Owner of the following, `async with`. ``owner``: under which rooms are wanted. ``kind``: of its records.

    ``watched`` and ``missed`` listen to ``standing``, ``happened`` to ``rooms``.
    """

    def __init__(self, rooms: Rooms, standing: Standing, store: Store, *, owner: str, kind: str) -> None:
        self._rooms = rooms
        self._standing = standing
        self._store = store
        self._owner = owner
        self._kind = kind
        self._stakes: list[Stake] = []
        self._followed: dict[str, LiveRoom] = {}
        self._known: dict[str, tuple[str, float]] = {}
        """SID of each room, and when it was seen last, in seconds since 1970."""
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of all rooms. May be called twice."""
        await self._tasks.aclose()

    def add(self, stake: Stake) -> None:
        """Something more is held from now on."""
        self._stakes.append(stake)

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(self._kind):
            sid, seen = json.loads(record.body)
            self._known[record.room] = (sid, seen)

    def restore(self) -> None:
        """Begins to follow the rooms in which an earlier run held something."""
        for stake in self._stakes:
            for room in stake.rooms():
                self._standing.want(self._owner, room)
        for room in [room for room in self._known if not self._concerned(room)]:
            self._forget(room)

    async def want(self, live: LiveRoom) -> None:
        """Something is about to be held in the room, which is watched. Raises StoreError."""
        known = self._known.get(live.name)
        if known is None or known[0] != live.model.sid:
            await self._seen(live)

    def held(self, live: LiveRoom) -> None:
        """Something is held in the room."""
        self._standing.want(self._owner, live.name)
        self.watched(live)

    def settle(self, room: str) -> None:
        """Something is held no more."""
        if not self._concerned(room):
            self._standing.release(self._owner, room)
            self._forget(room)

    def watched(self, live: LiveRoom) -> None:
        """A room is watched. See the class."""
        if self._followed.get(live.name) is live or live.closed or not self._concerned(live.name):
            return
        sid, seen = self._known.get(live.name, ("", 0.0))
        if sid and live.model.sid and sid != live.model.sid and time.time() - seen > RETURN_S:
            log.info("held_ended_with_room", owner=self._owner, room=live.name, room_sid=sid)
            self._end(live.name)
            return
        with contextlib.suppress(Draining):
            self._tasks.spawn(self._follow(live), name=f"{self._owner} in {live.name}")
            self._followed[live.name] = live
            for stake in self._stakes:
                stake.look(live)

    def missed(self, room: str) -> None:
        """LiveKit does not have the room. See the class."""
        sid, seen = self._known.get(room, ("", 0.0))
        # While it is followed its watcher tells when it has ended.
        if room not in self._followed and self._concerned(room) and time.time() - seen > RETURN_S:
            log.info("held_ended_with_room", owner=self._owner, room=room, room_sid=sid)
            self._end(room)

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """LiveKit changed something. See the class."""
        if not self._concerned(room):
            return
        live = self._rooms.find(room)
        if live is None:
            return
        self.watched(live)
        for stake in self._stakes:
            stake.happened(live, event)

    async def _follow(self, live: LiveRoom) -> None:
        """To the end of the room, or of all that is held in it."""
        try:
            while self._concerned(live.name) and not live.closed:
                with contextlib.suppress(StoreError):
                    # Failing, the room is only taken to have been seen less lately.
                    if live.current and live.model.sid:
                        await self._seen(live)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SEEN_INTERVAL_S):
                        await live.wait_closed()
        finally:
            if self._followed.get(live.name) is live:
                del self._followed[live.name]
        if live.closed:
            self._end(live.name)

    async def _seen(self, live: LiveRoom) -> None:
        known = (live.model.sid, time.time())
        self._known[live.name] = known
        await self._store.put(self._kind, live.name, "", json.dumps(known).encode())

    def _end(self, room: str) -> None:
        for stake in self._stakes:
            if stake.concerns(room):
                stake.ended(room)
        self.settle(room)

    def _forget(self, room: str) -> None:
        if self._known.pop(room, None) is not None:
            with contextlib.suppress(Draining):
                self._tasks.spawn(self._delete(room), name=f"forget {room}")

    async def _delete(self, room: str) -> None:
        if room in self._known:
            return
        try:
            await self._store.delete(self._kind, room, "")
        except StoreError as error:
            log.warning("room_not_forgotten", owner=self._owner, room=room, reason=str(error))

    def _concerned(self, room: str) -> bool:
        return any(stake.concerns(room) for stake in self._stakes)
