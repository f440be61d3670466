"""Private tracks: who may have what, and what keeps it so."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.composition.foundation import Foundation
from track_server.private_tracks.admission import Admission
from track_server.private_tracks.enforcement import Enforcement
from track_server.private_tracks.guests import Guests
from track_server.private_tracks.keeper import Means
from track_server.private_tracks.restrictions import Restrictions
from track_server.publishing.book import Book
from track_server.publishing.hosting import Sessions


@dataclass(frozen=True, slots=True)
class Private:
    """The parts. The enforcement is begun by whoever enters it."""

    means: Means
    enforcement: Enforcement
    admission: Admission


@contextlib.asynccontextmanager
async def restricting(ground: Foundation) -> AsyncIterator[Restrictions]:
    """The restrictions for the span of the block, read before any session begins: a track must not be published before
    it is known to be private.
    """
    async with Restrictions(ground.store) as restrictions:
        await restrictions.load()
        yield restrictions


def enforcing(ground: Foundation, book: Book, sessions: Sessions, restrictions: Restrictions) -> Private:
    """What keeps them."""
    guests = Guests(lambda room: enforcement.kick(room))  # noqa: PLW0108  it is made below
    means = Means(
        ground.rooms,
        ground.api,
        ground.subscriptions,
        ground.debug,
        book,
        sessions,
        restrictions,
        guests,
    )
    enforcement = Enforcement(means)
    return Private(means, enforcement, Admission(guests, enforcement, sessions, restrictions))
