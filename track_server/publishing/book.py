"""The book of publications: the one owner of their state, in memory and in the store."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication, PublicationRoute
from track_server.durations import seconds_of
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.secrets import secrets_of, shown, with_secrets
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "publication"


class Book:
    """All publications of this server by id. Messages in it are never changed in place.

    They are shown to whoever reads the room, so their secrets are kept apart from them. ``announce`` is told of every
    change: what was before (None: nothing), and what is now.
    """

    def __init__(self, store: Store, announce: Callable[[Publication | None, Publication], None]) -> None:
        self._store = store
        self._announce = announce
        self._publications: dict[str, Publication] = {}
        self._secrets: dict[str, Publication] = {}
        """Of those that have secrets."""
        self._behind: dict[str, str] = {}
        """Those whose record could not be written, with their rooms: they are tried again after the next write."""
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(_KIND):
            publication = self._without_secrets(Publication.FromString(record.body))
            self._publications[publication.publication_id] = publication

    def find(self, room: str, publication_id: str) -> Publication | None:
        """The publication, if it is one of the room and not forgotten."""
        publication = self._publications.get(publication_id)
        if publication is None or publication.room != room or _forgotten(publication):
            return None
        return publication

    def of_room(self, room: str) -> list[Publication]:
        """The room's, oldest first."""
        return [found for found in self._publications.values() if found.room == room and not _forgotten(found)]

    def whole(self, publication: Publication) -> Publication:
        """The publication with its secrets."""
        secrets = self._secrets.get(publication.publication_id)
        return publication if secrets is None else with_secrets(publication, secrets)

    def contribute(self, room: str, snapshot: event_pb2.RoomSnapshot) -> None:
        """Fills in the room's publications that have not ended, oldest first."""
        snapshot.publications.extend(found for found in self.of_room(room) if found.state != ENDED)

    def active(self) -> Iterable[Publication]:
        """All that have not ended."""
        return [found for found in self._publications.values() if found.state != ENDED]

    def of_route(self, route: "PublicationRoute.ValueType") -> list[Publication]:
        """All of a route, oldest first; also those that have ended and are not forgotten."""
        return [found for found in self._publications.values() if found.route == route and not _forgotten(found)]

    def active_of(
        self,
        room: str,
        identity: str,
        route: "PublicationRoute.ValueType" = PublicationRoute.PUBLICATION_ROUTE_HOSTED,
    ) -> list[Publication]:
        """Those of one participant and route that have not ended, oldest first."""
        return [
            found
            for found in self.active()
            if found.room == room and found.participant_identity == identity and found.route == route
        ]

    async def save(self, publication: Publication) -> None:
        """Takes a new state at once; returns when it is stored. Raises StoreError; it is taken all the same."""
        before = self._publications.get(publication.publication_id)
        publication = self._without_secrets(publication)
        if before != publication:
            self._purge()
            self._publications[publication.publication_id] = publication
            self._announce(before, publication)
            self.wake()
        elif publication.publication_id not in self._behind:
            return
        await self._write(publication.room, publication.publication_id)

    async def rewrite(self, publication: Publication) -> None:
        """`save` of a publication with another spec. It is whole: secrets that are not in it are forgotten."""
        self._secrets.pop(publication.publication_id, None)
        # Where nothing but a secret differs, it looks the same.
        self._behind[publication.publication_id] = publication.room
        await self.save(publication)

    async def take(self, publication: Publication) -> None:
        """`save` of what has happened, whether it can be stored or not: the record follows when the store works."""
        try:
            await self.save(publication)
        except StoreError as error:
            log.warning("publication_not_stored", publication_id=publication.publication_id, reason=str(error))

    async def forget(self, publication: Publication) -> None:
        """Takes it out, as if it had never been. Raises StoreError; it is taken out all the same."""
        self._publications.pop(publication.publication_id, None)
        self._secrets.pop(publication.publication_id, None)
        await self._write(publication.room, publication.publication_id)

    def wake(self) -> None:
        """Lets those who wait in ``until`` look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks after each change. Says whether it holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def _write(self, room: str, publication_id: str) -> None:
        await self._write_one(room, publication_id)
        for other, its_room in list(self._behind.items()):
            try:
                await self._write_one(its_room, other)
            except StoreError:
                return

    async def _write_one(self, room: str, publication_id: str) -> None:
        """Makes the record what is here."""
        publication = self._publications.get(publication_id)
        try:
            if publication is None:
                await self._store.delete(_KIND, room, publication_id)
            else:
                ends = publication.HasField("expire_time")
                expire = seconds_of(publication.expire_time) if ends else None
                body = self.whole(publication).SerializeToString()
                await self._store.put(_KIND, room, publication_id, body, expire_time=expire)
        except BaseException:
            self._behind[publication_id] = room
            raise
        if self._publications.get(publication_id) is publication:
            self._behind.pop(publication_id, None)

    def _purge(self) -> None:
        for publication_id in [key for key, found in self._publications.items() if _forgotten(found)]:
            del self._publications[publication_id]
            self._secrets.pop(publication_id, None)

    def _without_secrets(self, publication: Publication) -> Publication:
        """What is shown of it; its secrets are kept."""
        secrets = secrets_of(publication)
        if not secrets.ByteSize():
            return publication
        self._secrets.setdefault(publication.publication_id, Publication()).MergeFrom(secrets)
        return shown(publication)


def _forgotten(publication: Publication) -> bool:
    return publication.state == ENDED and publication.expire_time.seconds < time.time()
