"""The owner of what is desired of tracks' metadata, in memory and in the store."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol
from weakref import WeakValueDictionary

import structlog
from google.protobuf import struct_pb2

from track.v1.publication_pb2 import Publication, PublicationState
from track.v1.track_pb2 import Track
from track_server.metadata.record import Desired, decoded, specified
from track_server.rooms.likeness import Likeness
from track_server.store.records import RevisionConflict, Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "track_metadata"
_ENDED: Final = PublicationState.PUBLICATION_STATE_ENDED


class Publications(Protocol):
    """Who knows the publications of this service."""

    def find(self, room: str, publication_id: str) -> Publication | None:
        """The publication, if it is one of the room and not forgotten."""

    def active(self) -> Iterable[Publication]:
        """All that have not ended."""


class Records:
    """Metadata by room and key (see Desired). What is in it is never changed in place."""

    def __init__(self, store: Store, publications: Publications) -> None:
        self._store = store
        self._publications = publications
        self._rooms: dict[str, dict[str, Desired]] = {}
        self._sids: dict[tuple[str, str], str] = {}
        """Keys of others' tracks by room and SID."""
        self._specified: dict[str, set[str]] = {}
        """Publications whose spec has metadata, by room."""
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def load(self) -> None:
        """Reads what an earlier run left. The publications are there already."""
        for publication in self._publications.active():
            self.notice(publication)
        for record in await self._store.list(_KIND):
            try:
                found = decoded(record.room, record.key, record.revision, record.body)
            except (KeyError, ValueError, TypeError):
                log.exception("track_metadata_not_read", room=record.room, key=record.key)
                continue
            if found.publication_id and self.publication(found.room, found.publication_id) is None:
                await self._store.delete(_KIND, found.room, found.key)
                continue
            self._take(found)

    def publication(self, room: str, publication_id: str) -> Publication | None:
        """The publication, unless it has ended."""
        found = self._publications.find(room, publication_id)
        return None if found is None or found.state == _ENDED else found

    def notice(self, publication: Publication) -> None:
        """A publication has changed."""
        ids = self._specified.setdefault(publication.room, set())
        if publication.state != _ENDED and publication.spec.HasField("metadata"):
            ids.add(publication.publication_id)
        else:
            ids.discard(publication.publication_id)
        if not ids:
            del self._specified[publication.room]

    def rooms(self) -> set[str]:
        """Those in which there is any."""
        return self._rooms.keys() | self._specified.keys()

    def concerns(self, room: str) -> bool:
        """Whether there is any in the room."""
        return room in self._rooms or room in self._specified

    def of_room(self, room: str) -> list[Desired]:
        """All that there is in the room."""
        found = [known for known in self._rooms.get(room, {}).values() if not known.publication_id]
        ids = {known.publication_id for known in self._rooms.get(room, {}).values() if known.publication_id}
        for publication_id in sorted(ids | self._specified.get(room, set())):
            publication = self.publication(room, publication_id)
            known = self.of_publication(publication) if publication is not None else None
            if known is not None:
                found.append(known)
        return [known for known in found if known.exists]

    def find(self, room: str, key: str) -> Desired | None:
        """The record of that key."""
        return self._rooms.get(room, {}).get(key)

    def find_sid(self, room: str, track_sid: str) -> Desired | None:
        """That of somebody else's track, which is in the room as that SID."""
        key = self._sids.get((room, track_sid))
        return self.find(room, key) if key is not None else None

    def of_publication(self, publication: Publication) -> Desired | None:
        """What is desired of its track; also where it was removed, so that its spec does not bring it back."""
        return specified(publication, self.find(publication.room, publication.publication_id))

    def of_track(self, track: Track) -> Desired | None:
        """What is desired of a track in the room; also where that is to be without."""
        if track.publication_id:
            publication = self.publication(track.room, track.publication_id)
            known = self.of_publication(publication) if publication is not None else None
            if known is not None:
                return known
        if track.room not in self._rooms:
            return None
        return self.find_sid(track.room, track.sid) or self.returned(track)

    def returned(self, track: Track) -> Desired | None:
        """That of a track which is away, and which this one is like."""
        if track.publication_id:
            return None
        alike = Likeness.of(track)
        away = [
            known
            for known in self._rooms.get(track.room, {}).values()
            if known.away_since is not None and known.likeness == alike and track.sid not in known.passed
        ]
        # It may be that very track, of which it was not known whether it is there.
        return min(away, key=lambda known: (known.track_sid != track.sid, known.away_since), default=None)

    def describe(self, track: Track) -> struct_pb2.Struct | None:
        """See rooms.model.Describe."""
        if not self.concerns(track.room):
            return None
        known = self.of_track(track)
        return None if known is None else known.metadata

    def turn(self, room: str, key: str) -> asyncio.Lock:
        """Held by whoever changes that one."""
        lock = self._locks.get((room, key))
        if lock is None:
            lock = self._locks[room, key] = asyncio.Lock()
        return lock

    async def put(self, desired: Desired) -> Desired:
        """Takes it at once, so that it is on its way to LiveKit while it is stored; in turn.

        Raises StoreError: then what was before is there again.
        """
        before = self.find(desired.room, desired.key)
        self._take(desired)
        try:
            revision = await self._store.put(
                _KIND,
                desired.room,
                desired.key,
                desired.encoded(),
                # Of what was dropped a moment ago the record may still be there.
                expected_revision=desired.revision or None,
            )
        except (StoreError, RevisionConflict):
            known = self.find(desired.room, desired.key)
            if known is not None and known.etag == desired.etag:
                if before is None:
                    self.drop(desired)
                else:
                    self._take(_where(known, before))
            raise
        known = self.find(desired.room, desired.key)
        stored = replace(desired, revision=revision)
        if known is not None:
            # The room may have moved it meanwhile.
            stored = _where(known, stored)
        self._take(stored)
        return stored

    async def remove(self, desired: Desired) -> None:
        """Takes it out, in turn. Raises StoreError: then nothing has changed."""
        await self._store.delete(_KIND, desired.room, desired.key)
        self.drop(desired)

    def move(
        self, desired: Desired, *, track_sid: str, away_since: float | None, passed: frozenset[str] = frozenset()
    ) -> Desired:
        """Takes at once that its track is in the room as that SID, or away."""
        moved = replace(desired, track_sid=track_sid, away_since=away_since, passed=passed)
        self._take(moved)
        return moved

    async def keep(self, room: str, key: str) -> None:
        """Makes the record what is here, whatever that is. A store that fails is told in the log alone: what moved is
        found again in the room after a restart."""
        async with self.turn(room, key):
            known = self.find(room, key)
            try:
                if known is None:
                    await self._store.delete(_KIND, room, key)
                    return
                revision = await self._store.put(_KIND, room, key, known.encoded())
            except StoreError as error:
                log.warning("track_metadata_not_stored", room=room, key=key, reason=str(error))
                return
            current = self.find(room, key)
            if current is not None:
                self._take(replace(current, revision=revision))

    def drop(self, desired: Desired) -> None:
        """Takes it out at once; `keep` makes that last."""
        entries = self._rooms.get(desired.room, {})
        known = entries.pop(desired.key, None)
        if known is not None and known.track_sid:
            self._sids.pop((desired.room, known.track_sid), None)
        if not entries:
            self._rooms.pop(desired.room, None)

    def _take(self, desired: Desired) -> None:
        entries = self._rooms.setdefault(desired.room, {})
        before = entries.get(desired.key)
        if before is not None and before.track_sid:
            self._sids.pop((before.room, before.track_sid), None)
        entries[desired.key] = desired
        # Of one that is away the SID is kept only to tell that a key of the participant's is no longer wanted.
        if desired.track_sid and desired.away_since is None:
            self._sids[desired.room, desired.track_sid] = desired.key


def _where(known: Desired, desired: Desired) -> Desired:
    """``desired`` of the track, which is where ``known`` has it."""
    return replace(desired, track_sid=known.track_sid, away_since=known.away_since, passed=known.passed)
