"""Lets sessions of this service have tracks whose publishers keep others out, for as long as they need them."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from track_server.deadline import Deadline
from track_server.private_tracks.enforcement import Enforcement
from track_server.private_tracks.guests import Guests
from track_server.private_tracks.restrictions import Restrictions
from track_server.publishing.audience import Audience
from track_server.publishing.hosting import Sessions

_TOLD_S: Final = 5.0
"""A hosted publisher tells LiveKit within 0.1 s who may subscribe; one that has no worker at the moment, later."""


class Admission:
    """Puts guests onto the lists of the publishers that this service hosts."""

    def __init__(
        self, guests: Guests, enforcement: Enforcement, sessions: Sessions, restrictions: Restrictions
    ) -> None:
        self._guests = guests
        self._enforcement = enforcement
        self._sessions = sessions
        self._restrictions = restrictions

    @contextlib.asynccontextmanager
    async def admit(
        self, room: str, identity: str, behalf: str, publications: Sequence[tuple[str, str]]
    ) -> AsyncIterator[None]:
        """In the block, the session of that identity may have what the participant ``behalf`` may.

        ``publications``: identity of the publisher and id of each that it needs: the block begins once LiveKit was told
        of it.
        """

        def told() -> bool:
            return all(self._told(room, identity, *found) for found in publications)

        with self._guests.admit(room, identity, behalf):
            if self._restrictions.of_room(room):
                await self._enforcement.until(room, told, Deadline.after(_TOLD_S))
            yield

    def _told(self, room: str, identity: str, publisher: str, publication_id: str) -> bool:
        session = self._sessions.find(room, publisher)
        if session is None:
            return True
        private = self._restrictions.restricted(room, publication_id)
        return lets_in(session.audience, identity, publication_id, private=private)


def lets_in(told: Audience | None, identity: str, publication_id: str, *, private: bool) -> bool:
    """Whether what LiveKit was ``told`` lets the identity subscribe. ``private``: the publication has a rule. Pure."""
    if told is None or not told.restricted:
        return not private
    if publication_id in told.restricted:
        return identity in told.restricted[publication_id]
    return not private and identity in told.everybody
