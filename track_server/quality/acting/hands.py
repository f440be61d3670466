"""The limits that somebody set by hand, in memory and in the store."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson
import structlog

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track.v1.quality_policy_pb2 import QualityAction, QualityActionKind
from track_server.alarms import Alarms
from track_server.durations import seconds_of
from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.quality.acting.terms import Hand
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "quality_limit"
_CAP: Final = QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER
_TOLD_S: Final = 10.0
"""LiveKit tells of a participant that publishes nothing within so long."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One that holds. ``action``: that set it. ``publication_id``: of its track; empty where that is none of ours."""

    room: str
    action: QualityAction
    publication_id: str = ""

    @property
    def key(self) -> str:
        """What there is one of in the room."""
        about = self.publication_id or self.action.track_sid
        return f"{self.action.kind} {about} {self.action.participant_identity}"

    @property
    def expire_time(self) -> float | None:
        """Seconds since 1970 UTC, or None."""
        return seconds_of(self.action.expire_time) if self.action.HasField("expire_time") else None

    def hand(self, track_sid: str) -> Hand:
        """The limit; ``track_sid``: its track's now."""
        action = self.action
        return Hand(
            kind=action.kind,
            identity=action.participant_identity,
            track_sid=track_sid,
            quality=action.quality,
            expire_time=self.expire_time,
            detail=action.reason or f"by {action.applied_by}",
        )

    def encoded(self) -> bytes:
        """What ``decoded`` reads."""
        return orjson.dumps({"action": self.action.SerializeToString().hex(), "publication_id": self.publication_id})

    @classmethod
    def decoded(cls, room: str, body: bytes) -> Self:
        """What ``encoded`` wrote."""
        read: dict[str, Any] = orjson.loads(body)
        return cls(room, QualityAction.FromString(bytes.fromhex(read["action"])), read["publication_id"])


class Hands(Closing):
    """Owner of them, `async with`; a Stake of the Lives. One holds until it is released or expires, its participant
    leaves, or its track ends; that of a publication is carried over to each of its SIDs.

    ``changed`` is told of rooms where one changed, ``expired`` of one that expired. They neither wait nor raise.
    ``announced`` listens to the Book.
    """

    def __init__(
        self,
        store: Store,
        book: Book,
        lives: Lives,
        changed: Callable[[str], None],
        expired: Callable[[Kept], None],
    ) -> None:
        self._store = store
        self._book = book
        self._lives = lives
        self._changed = changed
        self._expired = expired
        self._rooms: dict[str, dict[str, Kept]] = {}
        self._alarms = Alarms(self._expire)
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go; the limits stay. May be called twice."""
        await self._alarms.aclose()
        await self._tasks.settle()
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left. Raises StoreError."""
        for record in await self._store.list(_KIND):
            kept = Kept.decoded(record.room, record.body)
            self._rooms.setdefault(record.room, {})[kept.key] = kept

    def restore(self) -> None:
        """Begins the time of what an earlier run left."""
        for kept in [kept for of_room in self._rooms.values() for kept in of_room.values()]:
            self._alarms.set(_alarm(kept), kept.expire_time)

    # Reading.

    def of(self, room: str) -> Iterator[Hand]:
        """The limits of the room."""
        for kept in self._rooms.get(room, {}).values():
            track_sid = kept.action.track_sid
            if kept.publication_id:
                publication = self._book.find(room, kept.publication_id)
                track_sid = publication.track_sid if publication is not None else track_sid
            yield kept.hand(track_sid)

    def find(self, kept: Kept) -> Kept | None:
        """The one that is there in its place."""
        return self._rooms.get(kept.room, {}).get(kept.key)

    # Changing.

    async def set(self, live: LiveRoom, kept: Kept) -> None:
        """Stores it, in the place of the one before; it holds once this returns. Raises StoreError."""
        await self._lives.want(live)
        async with self._turn:
            await self._store.put(_KIND, kept.room, kept.key, kept.encoded(), expire_time=kept.expire_time)
            self._rooms.setdefault(kept.room, {})[kept.key] = kept
            self._alarms.set(_alarm(kept), kept.expire_time)
        self._lives.held(live)
        self._changed(kept.room)

    async def release(self, kept: Kept) -> None:
        """Takes the one in that place back; nothing where there is none. Raises StoreError."""
        async with self._turn:
            if self.find(kept) is not None:
                await self._store.delete(_KIND, kept.room, kept.key)
                self._drop(kept)

    async def _expire(self, alarm: str) -> None:
        room, key = json.loads(alarm)
        kept = self._rooms.get(room, {}).get(key)
        if kept is not None:
            # The store forgets it by itself.
            self._drop(kept)
            self._expired(kept)

    def _drop(self, kept: Kept) -> None:
        of_room = self._rooms.get(kept.room, {})
        if of_room.pop(kept.key, None) is None:
            return
        self._alarms.set(_alarm(kept), None)
        if not of_room:
            del self._rooms[kept.room]
            self._lives.settle(kept.room)
        self._changed(kept.room)

    def _end(self, room: str, ends: Callable[[Kept], bool]) -> None:
        """What is over by itself."""
        for kept in [kept for kept in self._rooms.get(room, {}).values() if ends(kept)]:
            log.info("quality_limit_ended", room=room, action_id=kept.action.action_id)
            self._drop(kept)
            self._spawn(self._delete(kept))

    async def _delete(self, kept: Kept) -> None:
        async with self._turn:
            if self.find(kept) is None:
                await self._store.delete(_KIND, kept.room, kept.key)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("quality_limit_not_forgotten", reason=str(error))

        with contextlib.suppress(Draining):
            self._tasks.spawn(run(), name="forget quality limit")

    # What is told to it.

    def announced(self, before: Publication | None, after: Publication) -> None:
        """See the class."""
        if after.state == ENDED:
            self._end(after.room, lambda kept: kept.publication_id == after.publication_id)
        elif after.room in self._rooms and before is not None and before.track_sid != after.track_sid:
            self._changed(after.room)

    def rooms(self) -> Sequence[str]:
        """See Stake."""
        return list(self._rooms)

    def concerns(self, room: str) -> bool:
        """See Stake."""
        return room in self._rooms

    def look(self, live: LiveRoom) -> None:
        """See Stake."""
        model, now = live.model, time.time()

        def gone(kept: Kept) -> bool:
            action = kept.action
            if now - seconds_of(action.time) < _TOLD_S:
                return False
            lost = bool(action.track_sid) and not kept.publication_id and action.track_sid not in model.tracks
            identity = action.participant_identity
            return lost or (identity not in model.participants and _goes_with(kept, identity))

        self._end(live.name, gone)

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """See Stake."""
        match event.WhichOneof("change"):
            case "participant_left":
                identity = event.participant_left.identity
                self._end(live.name, lambda kept: _goes_with(kept, identity))
            case "track_unpublished":
                sid = event.track_unpublished.sid
                self._end(live.name, lambda kept: not kept.publication_id and kept.action.track_sid == sid)
            case _:
                pass

    def ended(self, room: str) -> None:
        """See Stake."""
        self._end(room, lambda _: True)


def _alarm(kept: Kept) -> str:
    return json.dumps([kept.room, kept.key])


def _goes_with(kept: Kept, identity: str) -> bool:
    """Whether it is over when that participant leaves. A publication may come back with its publisher, and ends by
    itself."""
    return kept.action.participant_identity == identity and not (kept.publication_id and kept.action.kind == _CAP)
