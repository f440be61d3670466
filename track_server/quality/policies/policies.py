"""The quality policies that are kept, and which of them holds."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from track.v1.quality_policy_pb2 import QualityPolicy
from track.v1.track_pb2 import Track
from track_server.access.principal import Principal, remembered
from track_server.errors import LimitExceeded, QualityPolicyNotFound, StoreUnavailable
from track_server.etags import ABSENT, compare, new_etag
from track_server.lifetime import Closing
from track_server.publishing.book import Book
from track_server.quality.policies.kept import Kept, decoded
from track_server.quality.policies.tracks import TrackPolicies
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.store.records import Store, StoreError

_KIND: Final = "quality_policy"
_LIMIT: Final = "max_quality_policies_per_room"

Listener = Callable[[str], None]
"""Told of a room in which something changed. It must neither wait nor raise."""


class Policies(Closing):
    """Owner of the policies, `async with`. Reads never wait; what is set is in the store before it holds."""

    def __init__(self, store: Store, book: Book, lives: Lives, limit: int) -> None:
        """``limit``: policies of one room. ``lives``: of the rooms in which tracks have some."""
        self._store = store
        self._limit = limit
        self._rooms: dict[str, dict[str, Kept]] = {}
        """By identity, "" for the room's own."""
        self._listeners: list[Listener] = []
        self._overs: list[Callable[[QualityPolicy], None]] = []
        self.tracks: Final = TrackPolicies(store, book, lives, self._tell, self._over)
        self._turn = asyncio.Lock()

    async def aclose(self) -> None:
        """Finishes what is being written. May be called twice."""
        await self.tracks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left. Raises StoreError."""
        for record in await self._store.list(_KIND):
            kept, _ = decoded(record.key, record.body)
            self._rooms.setdefault(record.room, {})[kept.policy.participant_identity] = kept
        await self.tracks.load()

    # Reading.

    def holding(self, room: str, identity: str = "", track_sid: str = "") -> QualityPolicy | None:
        """The one that holds there, as a whole: the track's, else the participant's, else the room's. Never change
        it."""
        kept = self.kept(room, identity, track_sid)
        return kept.policy if kept is not None else None

    def kept(self, room: str, identity: str = "", track_sid: str = "") -> Kept | None:
        """Likewise, with who set it."""
        own = self._rooms.get(room, {})
        found = self.tracks.find(room, track_sid) if track_sid else None
        return found or (own.get(identity) if identity else None) or own.get("")

    def find(self, room: str, identity: str, track_sid: str) -> QualityPolicy | None:
        """The one that was set there; None where none was. Never change it."""
        kept = self._rooms.get(room, {}).get(identity) if not track_sid else self.tracks.find(room, track_sid)
        return kept.policy if kept is not None else None

    def of(self, room: str) -> Iterator[QualityPolicy]:
        """All of a room, in no order."""
        for kept in (*self._rooms.get(room, {}).values(), *self.tracks.of(room)):
            yield kept.policy

    def rooms(self) -> set[str]:
        """The rooms that have one."""
        return {*self._rooms, *self.tracks.rooms()}

    def concerns(self, room: str) -> bool:
        """Whether the room, or a participant or a track in it, has a policy."""
        return room in self._rooms or self.tracks.concerns(room)

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of every change, once it is stored; also of tracks that have another SID, or are over."""
        self._listeners.append(listener)

    def ended(self, listener: Callable[[QualityPolicy], None]) -> None:
        """Tells ``listener`` of each policy that is over with its track. It must neither wait nor raise."""
        self._overs.append(listener)

    # Changing.

    async def set(
        self,
        policy: QualityPolicy,
        creator: Principal,
        etag: str,
        *,
        track: tuple[LiveRoom, Track] | None = None,
        validate_only: bool,
    ) -> QualityPolicy:
        """Keeps the policy, which was checked, in the place of the one that is there. ``track``: that it is about, in
        its room.

        Raises EtagMismatch, LimitExceeded, StoreUnavailable.
        """
        room = policy.room
        async with self._turn:
            known = self.find(room, policy.participant_identity, policy.track_sid)
            compare(_etag(known), etag, "policy")
            if known is None and sum(1 for _ in self.of(room)) >= self._limit:
                raise LimitExceeded(_LIMIT, self._limit, f"room {room}", used=self._limit + 1)
            kept = QualityPolicy()
            kept.CopyFrom(policy)
            kept.creator_identity = creator.identity
            kept.update_time.FromNanoseconds(time.time_ns())
            kept.etag = new_etag()
            if validate_only:
                kept.etag = _etag(known)
                return kept
            try:
                await self._put(Kept(kept, remembered(creator.message)), track)
            except StoreError as error:
                raise StoreUnavailable("the policy cannot be stored now") from error
            self._tell(room)
            return kept

    async def delete(
        self, room: str, identity: str, track_sid: str, etag: str, *, validate_only: bool
    ) -> QualityPolicy:
        """Removes it. Raises QualityPolicyNotFound, EtagMismatch, StoreUnavailable."""
        async with self._turn:
            known = self.find(room, identity, track_sid)
            if known is None:
                raise not_found(identity, track_sid)
            compare(_etag(known), etag, "policy")
            if validate_only:
                return known
            try:
                if track_sid:
                    await self.tracks.delete(room, track_sid)
                else:
                    await self._store.delete(_KIND, room, identity)
                    self._drop(room, identity)
            except StoreError as error:
                raise StoreUnavailable("the policy cannot be removed now") from error
            self._tell(room)
            return known

    async def _put(self, kept: Kept, track: tuple[LiveRoom, Track] | None) -> None:
        policy = kept.policy
        if track is not None:
            await self.tracks.set(*track, kept)
            return
        await self._store.put(_KIND, policy.room, policy.participant_identity, kept.encoded())
        self._rooms.setdefault(policy.room, {})[policy.participant_identity] = kept

    def _drop(self, room: str, identity: str) -> None:
        del self._rooms[room][identity]
        if not self._rooms[room]:
            del self._rooms[room]

    def _tell(self, room: str) -> None:
        for listener in self._listeners:
            listener(room)

    def _over(self, kept: Kept) -> None:
        for listener in self._overs:
            listener(kept.policy)


def not_found(identity: str, track_sid: str) -> QualityPolicyNotFound:
    """No policy of that participant, track, or of the room."""
    if track_sid:
        return QualityPolicyNotFound(f"no quality policy of track {track_sid!r}", field="track_sid")
    whose = f"of {identity!r}" if identity else "of the room"
    return QualityPolicyNotFound(f"no quality policy {whose}", field="participant_identity" if identity else "room")


def _etag(known: QualityPolicy | None) -> str:
    return known.etag if known is not None else ABSENT
