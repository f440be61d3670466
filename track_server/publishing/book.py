"""The book of publications: the one owner of their state, in memory and in the store."""

import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication, PublicationRoute
from track_server.durations import seconds_of
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.secrets import secrets_of, shown, with_secrets
from track_server.pulse import Pulse
from track_server.store.copies import Copies, Copy
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "publication"

Listener = Callable[[Publication | None, Publication], None]
"""Told of a change: what was before (None: nothing), and what is now."""


class Book:
    """All publications of this server by id. Messages in it are never changed in place.

    They are shown to whoever reads the room, so their secrets are kept apart from them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: list[Listener] = []
        self._publications: dict[str, Publication] = {}
        self._secrets: dict[str, Publication] = {}
        """Of those that have secrets."""
        self._records = Copies(store, _KIND, self._copy)
        self._changed = Pulse()

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of every change, those who listen longer first. It must neither wait nor raise."""
        self._listeners.append(listener)

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
            for listener in self._listeners:
                listener(before, publication)
            self.wake()
        elif not self._records.behind(publication.publication_id):
            return
        await self._records.write(publication.room, publication.publication_id)

    async def rewrite(self, publication: Publication) -> None:
        """`save` of a publication with another spec. It is whole: secrets that are not in it are forgotten."""
        self._secrets.pop(publication.publication_id, None)
        # Where nothing but a secret differs, it looks the same.
        self._records.lag(publication.room, publication.publication_id)
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
        await self._records.write(publication.room, publication.publication_id)

    def wake(self) -> None:
        """Lets those who wait in ``until`` look again."""
        self._changed.beat()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks after each change. Says whether it holds."""
        return await self._changed.until(condition, timeout_s)

    def _copy(self, publication_id: str) -> Copy | None:
        publication = self._publications.get(publication_id)
        if publication is None:
            return None
        expire = seconds_of(publication.expire_time) if publication.HasField("expire_time") else None
        return Copy(self.whole(publication).SerializeToString(), expire)

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
