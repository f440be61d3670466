"""The quality policies of tracks: they follow their tracks from SID to SID, and end with them."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Final

import structlog

from track.v1.track_pb2 import Track
from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.quality.policies.kept import Kept, decoded
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.store.records import Store, StoreError
from track_server.subscription.choice import Chosen
from track_server.subscription.lineages import Lineage, Lineages

log = structlog.get_logger(__name__)

KIND: Final = "quality_policy_of_track"
_WHOLE: Final = ""
"""Of a track there is one policy, which is no subscriber's."""


class TrackPolicies(Closing):
    """Owner of them, `async with`. A Holder: what becomes of them while their tracks come and go is Following's.

    ``lives``: what keeps the rooms watched in which there are any. ``changed`` is told of a room where one has another
    SID or is over, ``over`` of one that is over. They neither wait nor raise.
    """

    def __init__(
        self, store: Store, book: Book, lives: Lives, changed: Callable[[str], None], over: Callable[[Kept], None]
    ) -> None:
        self._store = store
        self._book = book
        self._lives = lives
        self._changed = changed
        self._over = over
        self._rooms: dict[str, Lineages[Kept]] = {}
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go; the policies stay. May be called twice."""
        await self._tasks.settle()
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left of tracks, and of publications that have not ended. Raises StoreError."""
        for record in await self._store.list(KIND):
            kept, chosen = decoded(record.key, record.body)
            if chosen is None:
                continue
            if chosen.publication_id:
                publication = self._book.find(record.room, chosen.publication_id)
                if publication is None or publication.state == ENDED:
                    await self._store.delete(KIND, record.room, record.key)
                    continue
                chosen = Chosen.of_publication(publication)
                kept = kept.moved(chosen.track_sid)
            self._rooms.setdefault(record.room, Lineages[Kept]()).add(chosen).choices[_WHOLE] = kept

    # Reading.

    def find(self, room: str, track_sid: str) -> Kept | None:
        """That of the track; None where it has none."""
        lineages = self._rooms.get(room)
        lineage = lineages.of_sid(track_sid) if lineages is not None else None
        return None if lineage is None else lineage.choices[_WHOLE]

    def of(self, room: str) -> Iterator[Kept]:
        """All of a room."""
        lineages = self._rooms.get(room)
        for lineage in lineages.all() if lineages is not None else ():
            yield lineage.choices[_WHOLE]

    def rooms(self) -> Sequence[str]:
        """See Holder."""
        return list(self._rooms)

    def concerns(self, room: str) -> bool:
        """See Holder."""
        return room in self._rooms

    def lineages(self, room: str) -> Lineages[Kept] | None:
        """See Holder."""
        return self._rooms.get(room)

    # Changing.

    async def set(self, live: LiveRoom, track: Track, kept: Kept) -> None:
        """Stores it; it holds once this returns. Raises StoreError: then all is as before."""
        await self._lives.want(live)
        async with self._turn:
            lineages = self._rooms.get(live.name)
            lineage = lineages.of_sid(track.sid) if lineages is not None else None
            chosen = lineage.chosen if lineage is not None else Chosen.of(track)
            await self._store.put(KIND, live.name, chosen.key, kept.encoded(chosen))
            lineages = self._rooms.setdefault(live.name, Lineages[Kept]())
            lineages.follow(live)
            (lineages.of_key(chosen.key) or lineages.add(chosen)).choices[_WHOLE] = kept
        self._lives.held(live)

    async def delete(self, room: str, track_sid: str) -> None:
        """Removes it from the store, and then here. Raises StoreError."""
        async with self._turn:
            lineages = self._rooms.get(room)
            lineage = lineages.of_sid(track_sid) if lineages is not None else None
            if lineage is not None:
                await self._store.delete(KIND, room, lineage.chosen.key)
                self._drop(lineage)

    def moved(self, lineage: Lineage[Kept], *, keep: bool) -> None:
        """See Holder."""
        chosen = lineage.chosen
        kept = lineage.choices[_WHOLE] = lineage.choices[_WHOLE].moved(chosen.track_sid)
        if keep:
            self._spawn(self._keep(lineage, kept))
        self._changed(chosen.room)

    def end(self, lineage: Lineage[Kept], identity: str | None = None) -> None:
        """See Holder."""
        kept = lineage.choices.get(_WHOLE)
        if kept is None:
            return
        log.info("quality_policy_ended_with_track", room=lineage.chosen.room, track_sid=lineage.chosen.track_sid)
        self._drop(lineage)
        self._spawn(self._delete(lineage.chosen))
        self._over(kept)
        self._changed(lineage.chosen.room)

    def _drop(self, lineage: Lineage[Kept]) -> None:
        room = lineage.chosen.room
        lineages = self._rooms.get(room)
        if lineages is None or lineages.of_key(lineage.chosen.key) is not lineage:
            return
        lineage.choices.clear()
        lineages.remove(lineage)
        if not lineages:
            del self._rooms[room]
            self._lives.settle(room)

    async def _keep(self, lineage: Lineage[Kept], kept: Kept) -> None:
        async with self._turn:
            if lineage.choices.get(_WHOLE) is kept:
                await self._store.put(KIND, lineage.chosen.room, lineage.chosen.key, kept.encoded(lineage.chosen))

    async def _delete(self, chosen: Chosen) -> None:
        async with self._turn:
            lineages = self._rooms.get(chosen.room)
            if lineages is None or lineages.of_key(chosen.key) is None:
                await self._store.delete(KIND, chosen.room, chosen.key)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("quality_policy_not_stored", reason=str(error))

        with contextlib.suppress(Draining):
            self._tasks.spawn(run(), name="keep quality policy of a track")
