"""What a publication by Ingress leaves in LiveKit, to be taken away after it: an ingress, and its participant."""

import contextlib
from dataclasses import dataclass
from typing import Final

import structlog

from track.v1.ingress_pb2 import Ingress
from track_server.errors import IngressUnavailable, RoomNotFound, StoreUnavailable, TrackError
from track_server.livekit.api import LiveKitApi
from track_server.livekit.ingress import IngressApi
from track_server.publishing.book import Book
from track_server.rooms.rooms import Rooms
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

KIND: Final = "ingress"
"""Kind of the records of the ingresses that are or may be there, by publication id; the body is LiveKit's id, or
empty while that is not known."""
# Ingress takes its participant away by itself where it still runs.
_LEAVES_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Ingresses:
    """What every publication by Ingress needs."""

    rooms: Rooms
    api: LiveKitApi
    ingress: IngressApi
    book: Book
    store: Store


class IngressRemnant:
    """Of one publication. ``ingress_id``: LiveKit's, empty while it is not known."""

    def __init__(self, parts: Ingresses, room: str, identity: str, publication_id: str, ingress_id: str) -> None:
        self.ingress_id = ingress_id
        self.participant_sid = ""
        """The session of the participant that was seen to publish from it."""
        self.unsure = True
        """Whether there may be one whose id is not known: after a crash, or where LiveKit did not answer."""
        self._parts = parts
        self._room = room
        self._identity = identity
        self._publication_id = publication_id

    async def note(self, ingress_id: str) -> None:
        """One will be created (empty), or is. Noted first: else it could not be deleted after a crash.

        Raises StoreUnavailable; it is taken all the same.
        """
        self.ingress_id = ingress_id
        self.unsure = not ingress_id
        try:
            await self._parts.store.put(KIND, self._room, self._publication_id, ingress_id.encode())
        except StoreError as error:
            raise StoreUnavailable("this server's store cannot be written") from error

    async def existing(self) -> Ingress | None:
        """The one that is there, by its name. Raises what IngressApi raises."""
        found = await self._parts.ingress.of_room(self._room)
        return next((item.ingress for item in found if item.name == self._publication_id), None)

    async def remove(self) -> bool:
        """One try to delete it, and to see to it that its participant is gone; says whether that is done."""
        try:
            if not self.ingress_id and self.unsure and (left := await self.existing()) is not None:
                self.ingress_id = left.ingress_id
            if self.ingress_id:
                await self._parts.ingress.delete(self.ingress_id)
            await self._send_home()
            await self._parts.store.delete(KIND, self._room, self._publication_id)
        except IngressUnavailable as error:
            # There is no Redis any more in which it could be.
            log.warning("ingress_not_deleted", publication_id=self._publication_id, reason=error.message)
        except (TrackError, StoreError) as error:
            log.warning("ingress_not_deleted", publication_id=self._publication_id, reason=str(error))
            return False
        return True

    async def _send_home(self) -> None:
        """Removes the participant where Ingress does not take it away: none runs any more."""
        if not self.participant_sid:
            return
        with contextlib.suppress(RoomNotFound):
            async with self._parts.rooms.watch(self._room) as live:

                def left() -> bool:
                    found = live.model.participants.get(self._identity)
                    return live.closed or (live.current and (found is None or found.sid != self.participant_sid))

                if not await live.until(left, _LEAVES_S):
                    await self._parts.api.remove_participant(self._room, self._identity)
