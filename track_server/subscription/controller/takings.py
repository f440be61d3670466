"""What this service took from subscribers or set for them, and owes them back: in memory and in the store."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import orjson
import structlog

from track_server.store.records import RevisionConflict, Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "subscription_taken"
_KEPT_S: Final = 30 * 24 * 3600.0
"""A connection does not last so long."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Of one connection of a participant. ``unsubscribed``: SIDs of tracks that it would have, but for us. ``set``:
    SIDs of those that it was told how to receive. ``advised``: that stands in its attribute."""

    participant_sid: str
    unsubscribed: frozenset[str] = frozenset()
    set: frozenset[str] = frozenset()
    advised: bool = False

    def __bool__(self) -> bool:
        return bool(self.unsubscribed or self.set or self.advised)


class Takings:
    """Owner of them. A write fails with StoreError where another server has written meanwhile: it has the room now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rooms: dict[str, dict[str, tuple[Taken, int]]] = {}
        """With the revisions of their records."""
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def load(self) -> None:
        """Reads what an earlier run left. Raises StoreError."""
        await self._read(None)

    async def reload(self, room: str) -> None:
        """Reads what another server left in that room. Raises StoreError."""
        self._rooms.pop(room, None)
        await self._read(room)

    def rooms(self) -> Collection[str]:
        """Rooms in which something is owed."""
        return list(self._rooms)

    def concerns(self, room: str) -> bool:
        """Whether something is owed in the room."""
        return room in self._rooms

    def of(self, room: str, identity: str, participant_sid: str) -> Taken:
        """What is owed to that connection."""
        known = self._rooms.get(room, {}).get(identity)
        return known[0] if known is not None and known[0].participant_sid == participant_sid else Taken(participant_sid)

    def owed(self, room: str) -> Collection[str]:
        """Identities of those to whom something is owed."""
        return list(self._rooms.get(room, ()))

    async def change(self, room: str, identity: str, participant_sid: str, change: Callable[[Taken], Taken]) -> None:
        """Makes what is owed to that connection another. Raises StoreError: then it may be either."""
        async with self._turn(room, identity):
            known = self._rooms.get(room, {}).get(identity)
            before = self.of(room, identity, participant_sid)
            after = change(before)
            if after == before:
                return
            if not after:
                await self._drop(room, identity)
                return
            try:
                revision = await self._store.put(
                    _KIND,
                    room,
                    identity,
                    _encoded(after),
                    expected_revision=known[1] if known is not None else 0,
                    expire_time=time.time() + _KEPT_S,
                )
            except RevisionConflict as error:
                raise StoreError("another server keeps the room's subscriptions now") from error
            self._rooms.setdefault(room, {})[identity] = (after, revision)

    async def drop(self, room: str, identity: str, participant_sid: str) -> None:
        """Nothing is owed to that connection any more; another one of the participant keeps what it is owed. Raises
        StoreError."""
        async with self._turn(room, identity):
            if self.of(room, identity, participant_sid):
                await self._drop(room, identity)

    async def forget(self, room: str) -> None:
        """The room is gone. Raises StoreError."""
        for identity in self.owed(room):
            async with self._turn(room, identity):
                await self._drop(room, identity)

    def _turn(self, room: str, identity: str) -> asyncio.Lock:
        """One change of a record after the other."""
        turn = self._turns.get((room, identity))
        if turn is None:
            turn = self._turns[room, identity] = asyncio.Lock()
        return turn

    async def _drop(self, room: str, identity: str) -> None:
        of_room = self._rooms.get(room, {})
        if of_room.pop(identity, None) is None:
            return
        if not of_room:
            self._rooms.pop(room, None)
        await self._store.delete(_KIND, room, identity)

    async def _read(self, room: str | None) -> None:
        for record in await self._store.list(_KIND, room):
            try:
                taken = _decoded(record.body)
            except (ValueError, KeyError, TypeError):
                log.exception("subscription_taken_not_read", room=record.room, identity=record.key)
                continue
            self._rooms.setdefault(record.room, {})[record.key] = (taken, record.revision)


def _encoded(taken: Taken) -> bytes:
    return orjson.dumps(
        {
            "participant_sid": taken.participant_sid,
            "unsubscribed": sorted(taken.unsubscribed),
            "set": sorted(taken.set),
            "advised": taken.advised,
        }
    )


def _decoded(body: bytes) -> Taken:
    read = orjson.loads(body)
    return Taken(read["participant_sid"], frozenset(read["unsubscribed"]), frozenset(read["set"]), read["advised"])
