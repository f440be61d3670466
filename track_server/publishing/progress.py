"""How far a publication has got, or its end: waited for, and told with its evidence."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from track.v1 import publication_pb2
from track.v1.ingress_pb2 import IngressType
from track.v1.publication_pb2 import Evidence, Publication, Stage
from track_server.deadline import Deadline
from track_server.errors import RoomNotFound, error_in
from track_server.publishing.attempts import told
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED, LIVE, STARTING
from track_server.publishing.spec import are_messages
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

# A client ends what was never live by refusing it.
_FAILED: Final = (
    publication_pb2.PUBLICATION_END_CAUSE_FAILED,
    publication_pb2.PUBLICATION_END_CAUSE_CLIENT,
)


@dataclass(frozen=True, slots=True)
class Reached:
    """A publication, how far it got, and where that was seen."""

    publication: Publication
    stage: "Stage.ValueType"
    evidence: "Evidence.ValueType" = publication_pb2.EVIDENCE_UNSPECIFIED


class Progress:
    """Waits, in the Book and in the live room."""

    def __init__(self, rooms: Rooms, book: Book) -> None:
        self._rooms = rooms
        self._book = book

    async def live(self, live: LiveRoom, publication: Publication, deadline: Deadline) -> Reached:
        """Waits for it to be in the room. Raises what made it fail, where it never was, and forgets it then."""
        room, publication_id = publication.room, publication.publication_id

        def current() -> Publication:
            return self._book.find(room, publication_id) or publication

        def settled() -> bool:
            found = current()
            there = found.state == LIVE and (found.track_sid in live.model.tracks or not has_sid(found))
            return there or found.state == ENDED or waits_for_media(found)

        # The session may say that it is published, and LiveKit never show it.
        new = not was_live(publication)
        await self._until(live, settled, deadline)
        found = current()
        failed = found.end_cause == publication_pb2.PUBLICATION_END_CAUSE_FAILED and new
        if found.HasField("problem") and (failed or (found.end_cause in _FAILED and not was_live(found))):
            await self._book.forget(found)
            error = error_in(found.problem)
            error.detail = told(found) if found.attempts else None
            raise error
        if found.state == LIVE and not has_sid(found):
            return Reached(found, publication_pb2.STAGE_OBSERVED, publication_pb2.EVIDENCE_HOSTED_SESSION)
        if found.state == LIVE and found.track_sid in live.model.tracks:
            return Reached(found, publication_pb2.STAGE_OBSERVED, publication_pb2.EVIDENCE_ROOM)
        acknowledged = was_live(found) or waits_for_media(found) or bool(found.ingress.ingress_id)
        stage = publication_pb2.STAGE_ACKNOWLEDGED if acknowledged else publication_pb2.STAGE_REQUESTED
        return Reached(found, stage)

    async def _until(self, live: LiveRoom, settled: Callable[[], bool], deadline: Deadline) -> None:
        """Waits until it holds, of what the Book and the live room tell."""
        waits = [asyncio.ensure_future(part.until(settled, deadline.remaining_s())) for part in (self._book, live)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def gone(self, publication: Publication, deadline: Deadline) -> Reached:
        """Waits for its tracks to be out of the room."""
        sids = {entry.track_sid for entry in publication.lineage}
        if await self.out_of_room(publication.room, sids, deadline):
            return Reached(publication, publication_pb2.STAGE_OBSERVED, publication_pb2.EVIDENCE_ROOM)
        return Reached(publication, publication_pb2.STAGE_REQUESTED)

    async def out_of_room(self, room: str, sids: set[str], deadline: Deadline) -> bool:
        """Waits for the tracks to be out of the room; says whether that was seen: nobody sees an unwatched room."""
        if self._rooms.find(room) is None:
            return False
        try:
            # Watched on, also where whoever had it watched is done before the tracks are gone.
            async with self._rooms.watch(room) as live:
                return await live.until(
                    lambda: live.closed or (live.current and not sids & live.model.tracks.keys()),
                    deadline.remaining_s(),
                )
        except RoomNotFound:
            return True


def has_sid(publication: Publication) -> bool:
    """Whether LiveKit gives it a SID: to data messages it gives none."""
    return not are_messages(publication.spec)


def waits_for_media(publication: Publication) -> bool:
    """Whether nothing but the media is missing that somebody is to send: frames that are pushed (sound and pictures are
    published with the first one, data without), or what an ingress accepts."""
    spec = publication.spec
    pushed = spec.HasField("push") and not spec.push.HasField("data")
    accepted = bool(publication.ingress.ingress_id) and spec.ingress.type != IngressType.INGRESS_TYPE_URL
    return (pushed or accepted) and publication.state == STARTING


def was_live(publication: Publication) -> bool:
    """Whether it ever was in the room."""
    return any(move.state == LIVE for move in publication.moves) or bool(publication.lineage)
