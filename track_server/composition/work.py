"""What the service does: publications and their sessions, quality, subscriptions, private tracks."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from prometheus_client import Counter

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.publishing.book import Book
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.session import Hosting
from track_server.publishing.standing import StandingPublications, report_revoked
from track_server.quality.quality import Quality
from track_server.rooms.excess import ExcessWatch
from track_server.subscription.enforcement import Enforcement
from track_server.subscription.granted import GrantedSubscriptions
from track_server.subscription.keeper import Means
from track_server.subscription.restrictions import Restrictions


@dataclass(frozen=True, slots=True)
class Work:
    """The parts. What an earlier run left is read, and not begun: see ``resume``."""

    book: Book
    quality: Quality
    sessions: Sessions
    granted: GrantedSubscriptions
    restrictions: Restrictions
    means: Means
    enforcement: Enforcement

    async def resume(self, stack: contextlib.AsyncExitStack) -> None:
        """Begins what an earlier run left. Sessions and enforcement end with the stack."""
        await stack.enter_async_context(self.sessions)
        self.sessions.restore()
        await stack.enter_async_context(self.enforcement)
        self.enforcement.restore()


@contextlib.asynccontextmanager
async def working(ground: Foundation, authority: Authority, media_address: str) -> AsyncIterator[Work]:
    """The work for the span of the block. ``media_address``: where media workers find MediaService."""
    async with contextlib.AsyncExitStack() as stack:
        rooms, api, store = ground.rooms, ground.api, ground.store
        quality = await stack.enter_async_context(Quality(lambda room, _: sessions.refresh_stats(room)))

        def announce(before: Publication | None, after: Publication) -> None:
            if before is None or (before.state, before.muted) != (after.state, after.muted):
                rooms.announce(after.room, event_pb2.RoomEvent(publication_moved=after))
            if after.state == ENDED:
                quality.forget(after.publication_id)
                report_revoked(authority.access, after)
            elif before is not None and before.muted != after.muted:
                quality.interrupt(after.publication_id)

        book = Book(store, announce)
        await book.load()
        # Before any session begins: a track must not be published before it is known to be private.
        restrictions = await stack.enter_async_context(Restrictions(store))
        await restrictions.load()
        hosting = Hosting(
            rooms,
            api,
            book,
            media_address,
            restrictions.restricted,
            lambda room: enforcement.kick(room),  # noqa: PLW0108  it is made below
        )
        sessions = Sessions(hosting, quality.record, quality.stats_interval)
        means = Means(rooms, api, ground.debug, book, sessions, restrictions)
        enforcement = Enforcement(means)
        granted = GrantedSubscriptions(store, api)
        await granted.load()
        rooms.listen(granted.happened)
        rooms.listen(ExcessWatch(rooms, ground.settings, _excess_counter(ground)).happened)
        authority.revocation.add(granted)
        authority.revocation.add(StandingPublications(book, sessions))
        yield Work(book, quality, sessions, granted, restrictions, means, enforcement)


def _excess_counter(ground: Foundation) -> Callable[[str], None]:
    exceeded = Counter(
        "track_limits_exceeded",
        "Times that what others publish went beyond a limit.",
        ("limit",),
        registry=ground.registry,
    )
    return lambda limit: exceeded.labels(limit).inc()
