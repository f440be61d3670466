"""Changes of publications that participants' clients make: where a client does not, the publication is what it was."""

import asyncio
import contextlib
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track.control.v1.control_pb2 import Reply
from track.v1.publication_pb2 import Publication
from track_server.deadline import Deadline
from track_server.errors import TrackError
from track_server.publishing import attempts
from track_server.publishing.book import Book
from track_server.publishing.client.route import ClientRoute
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.publishing.replacing import Replacing
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "client_update"
_LOOK_S: Final = 600.0


class ClientUpdates:
    """Each is noted before it is begun, and followed to its end, whoever waits for it and over restarts of ours."""

    def __init__(self, book: Book, store: Store, clients: ClientRoute, replacing: Replacing) -> None:
        self._book = book
        self._store = store
        self._clients = clients
        self._replacing = replacing

    async def note(self, before: Publication) -> None:
        """Remembers what it was, whole, before the Book has what it is to be. Raises StoreError."""
        await self._store.put(_KIND, before.room, before.publication_id, before.SerializeToString())

    async def forget(self, publication: Publication) -> None:
        """Nothing is under way any more."""
        try:
            await self._store.delete(_KIND, publication.room, publication.publication_id)
        except StoreError as error:
            log.warning("client_update_not_forgotten", publication_id=publication.publication_id, reason=str(error))

    async def make(self, before: Publication, after: Publication, deadline: Deadline) -> Reply | None:
        """Has the client make what is noted and in the Book, for who has the turn (see Replacing).

        The last reply; None where the deadline came first. Raises what ClientRoute.update raises: then it is undone.
        """
        task = self._replacing.begin(after.publication_id, self._follow(before, after))
        await asyncio.wait([task], timeout=deadline.remaining_s())
        return task.result() if task.done() else None

    async def restore(self) -> None:
        """Goes on with what an earlier run left. Raises StoreError."""
        for record in await self._store.list(_KIND):
            before = Publication.FromString(record.body)
            _ = self._replacing.begin(before.publication_id, self._resume(before))

    async def _follow(self, before: Publication, after: Publication) -> Reply:
        try:
            reply = await self._clients.update(after)
        except TrackError:
            await self._undo(before)
            await self.forget(before)
            raise
        if reply.status == control.COMMAND_STATUS_UNSPECIFIED:
            # It is not followed any more: it has ended, or this server does.
            return await self._resume(before)
        await self.forget(before)
        return reply

    async def _resume(self, before: Publication) -> Reply:
        """Asks the client again once it publishes it as it was; nothing where it has published it anew since."""
        while not await self._book.until(lambda: self._settled(before), _LOOK_S):
            pass
        current = self._book.find(before.room, before.publication_id)
        if current is not None and current.state != ENDED and current.track_sid == before.track_sid:
            return await self._follow(before, self._book.whole(current))
        await self.forget(before)
        return Reply()

    def _settled(self, before: Publication) -> bool:
        """Whether the client publishes it, or it is over."""
        current = self._book.find(before.room, before.publication_id)
        if current is None or current.state == ENDED:
            return True
        return current.state == LIVE and self._clients.publishes(current)

    async def _undo(self, before: Publication) -> None:
        current = self._book.find(before.room, before.publication_id)
        if current is None or current.state == ENDED:
            return
        if current.state == LIVE and current.track_sid != before.track_sid:
            # The participant came back meanwhile, and its client has published what was asked for.
            return
        with contextlib.suppress(StoreError):  # the Book has it all the same, and stores it later
            await self._book.rewrite(attempts.back_to(current, before))
        self._clients.kick(current)
