"""The restrictions: the one owner of who may subscribe to which track, in memory and in the store."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from google.protobuf import timestamp_pb2

from track.v1 import subscription_permission_pb2 as pb
from track.v1 import track_pb2
from track_server.deadline import Deadline
from track_server.errors import ConsistencyNotReached, InvalidArgument, PermissionDenied, TargetPermission
from track_server.lifetime import Closing, Tasks
from track_server.private_tracks.consistency import revision_of
from track_server.private_tracks.rule import Rule
from track_server.pulse import Pulse
from track_server.rooms.room import now
from track_server.store.records import Store

log = structlog.get_logger(__name__)

_KIND: Final = "subscription_permission"
_HEAD: Final = "subscription_permission_head"
_CLEARED_S: Final = 60.0
"""How long a record without a rule stays: it is written for its revision alone."""
_CATCH_UP_S: Final = 1.0
"""How long a request waits for a revision that is not known here yet."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """Which track: by the publication's id, or for tracks of others by the SID. One of the two is set."""

    room: str
    publication_id: str = ""
    track_sid: str = ""

    @property
    def text(self) -> str:
        """In the store, where neither form can be mistaken for the other: SIDs begin otherwise than ids."""
        return self.publication_id or self.track_sid


@dataclass(frozen=True, slots=True, eq=False)
class Restriction:
    """Who may subscribe to one track. A change makes a new one."""

    key: Key
    rule: Rule
    revision: int
    update_time: timestamp_pb2.Timestamp


class Restrictions(Closing):
    """All restrictions of this server, `async with`; `load` comes first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rooms: dict[str, dict[Key, Restriction]] = {}
        self._revision = 0
        self._advanced = Pulse()
        """When the revision has grown."""
        self._writing = asyncio.Lock()
        self._listeners: list[Callable[[str], None]] = []
        self._writes = Tasks()

    async def aclose(self) -> None:
        """Finishes what is being written. May be called twice."""
        await self._writes.settle()
        await self._writes.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left. Raises StoreError."""
        for record in await self._store.list(_KIND):
            stored = pb.TrackSubscriptionPermissions.FromString(record.body)
            if stored.HasField("rule"):
                key = Key(record.room, stored.publication_id, stored.track_sid)
                self._keep(Restriction(key, _rule(stored.rule), record.revision, stored.update_time))
        # No revision that was ever given is newer than this one.
        self._revision = await self._store.put(_HEAD, "", "", b"")

    @property
    def revision(self) -> int:
        """The newest that is known here."""
        return self._revision

    def rooms(self) -> list[str]:
        """The rooms that have any."""
        return list(self._rooms)

    def of_room(self, room: str) -> list[Restriction]:
        """The room's."""
        return list(self._rooms.get(room, {}).values())

    def find(self, key: Key) -> Restriction | None:
        """The track's, None where everybody may."""
        return self._rooms.get(key.room, {}).get(key)

    def restricted(self, room: str, publication_id: str) -> bool:
        """Whether not everybody may subscribe to the publication."""
        return self.find(Key(room, publication_id)) is not None

    # Changes: stored first. Who is cancelled while it waits does not undo them.

    async def set(self, key: Key, rule: Rule) -> Restriction:
        """Replaces what was said of the track. Raises StoreError."""
        return await self._write(self._set(key, rule))

    async def clear(self, key: Key) -> int:
        """Lets everybody subscribe again; returns the revision of that. Raises StoreError."""
        return await self._write(self._clear(key))

    async def forget(self, restriction: Restriction) -> None:
        """Drops one whose track is gone, unless another was set meanwhile. Raises StoreError."""
        await self._write(self._forget(restriction))

    async def _set(self, key: Key, rule: Rule) -> Restriction:
        async with self._writing:
            update_time = now()
            body = _body(key, update_time, rule)
            revision = await self._store.put(_KIND, key.room, key.text, body)
            kept = self._keep(Restriction(key, rule, revision, update_time))
            self._advance(revision)
            return kept

    async def _clear(self, key: Key) -> int:
        async with self._writing:
            expire = time.time() + _CLEARED_S
            revision = await self._store.put(_KIND, key.room, key.text, _body(key, now()), expire_time=expire)
            self._drop(key)
            self._advance(revision)
            return revision

    def listen(self, listener: Callable[[str], None]) -> None:
        """Tells ``listener`` of rooms whose restrictions changed. It must neither wait nor raise."""
        self._listeners.append(listener)

    def _tell(self, room: str) -> None:
        for listener in self._listeners:
            listener(room)

    def _advance(self, revision: int) -> None:
        self._revision = revision
        self._advanced.beat()

    async def _forget(self, restriction: Restriction) -> None:
        async with self._writing:
            if self.find(restriction.key) is restriction:
                await self._store.delete(_KIND, restriction.key.room, restriction.key.text)
                self._drop(restriction.key)

    async def _write(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._writes.begin(work, name="write restriction"))

    def _keep(self, restriction: Restriction) -> Restriction:
        self._rooms.setdefault(restriction.key.room, {})[restriction.key] = restriction
        self._tell(restriction.key.room)
        return restriction

    def _drop(self, key: Key) -> None:
        of_room = self._rooms.get(key.room, {})
        of_room.pop(key, None)
        if not of_room:
            self._rooms.pop(key.room, None)
        self._tell(key.room)

    # What the other commands ask.

    async def reached(self, token: str, room: str, deadline: Deadline) -> None:
        """Returns once this server is as far as the token demands; at once for the empty one.

        Raises InvalidConsistencyToken, ConsistencyNotReached.
        """
        wanted = revision_of(token, room)
        if wanted <= self._revision:
            return
        # A write that is on its way here may bring it.
        within_s = min(_CATCH_UP_S, deadline.remaining_s())
        if not await self._advanced.until(lambda: wanted <= self._revision, within_s):
            raise ConsistencyNotReached(
                "this server has not reached the state that the consistency token demands", field="consistency_token"
            )

    def refuse(self, track: track_pb2.Track, subscriber: track_pb2.Participant, *, itself: bool, field: str) -> None:
        """Raises where the participant may not subscribe to the track.

        PermissionDenied where it asks for ``itself``, else TargetPermission. ``field``: of the subscriber.
        """
        if self.allows(track, subscriber):
            return
        if itself:
            raise PermissionDenied("the track is private: the caller may not subscribe to it", field=field)
        raise TargetPermission(
            f"the track is private: participant {subscriber.identity!r} may not subscribe to it", field=field
        )

    def allows(self, track: track_pb2.Track, subscriber: track_pb2.Participant) -> bool:
        """Whether the participant may subscribe to the track."""
        restriction = self.find(Key(track.room, track.publication_id)) if track.publication_id else None
        restriction = restriction or self.find(Key(track.room, track_sid=track.sid))
        return restriction is None or restriction.rule.allows(subscriber)


def _rule(stored: pb.TrackSubscriptionRule) -> Rule:
    try:
        return Rule(stored)
    except InvalidArgument as error:
        # Of another version of this server: what cannot be understood must not let anybody in.
        log.error("restriction_not_understood", reason=error.message)  # noqa: TRY400  the sentence says it all
        return Rule(pb.TrackSubscriptionRule(nobody=True))


def _body(key: Key, update_time: timestamp_pb2.Timestamp, rule: Rule | None = None) -> bytes:
    return pb.TrackSubscriptionPermissions(
        room=key.room,
        track_sid=key.track_sid,
        publication_id=key.publication_id,
        rule=rule.message if rule is not None else None,
        update_time=update_time,
    ).SerializeToString()
