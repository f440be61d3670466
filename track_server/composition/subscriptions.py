"""Subscriptions: who chose what, what is asked of LiveKit, what is seen, and what lasts over changes of the SID."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from prometheus_client import Counter

from track_server.composition.authority import Authority
from track_server.composition.choices import Chosen, choosing
from track_server.composition.controllers import controlling
from track_server.composition.focus import Focused, focusing
from track_server.composition.foundation import Foundation
from track_server.composition.policies import Ruled, ruling
from track_server.composition.states import Reported, reporting
from track_server.private_tracks.restrictions import Restrictions
from track_server.publishing.book import Book
from track_server.subscription.controller.asking import Asking
from track_server.subscription.controller.controllers import Controllers
from track_server.subscription.explaining.explaining import Explaining
from track_server.subscription.granted import GrantedSubscriptions
from track_server.subscription.lasting import LastingSubscriptions
from track_server.subscription.received import Received


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The parts."""

    chosen: Chosen
    ruled: Ruled
    explaining: Explaining
    focused: Focused
    asking: Asking
    reported: Reported
    received: Received
    controllers: Controllers
    lasting: LastingSubscriptions

    def restore(self) -> None:
        """Begins what an earlier run left."""
        self.chosen.restore()
        self.focused.restore()
        self.controllers.restore()


@contextlib.asynccontextmanager
async def subscribing(
    ground: Foundation, authority: Authority, book: Book, restrictions: Restrictions
) -> AsyncIterator[Subscribed]:
    """Subscriptions for the span of the block. What an earlier run left is read. Raises StoreError."""
    rooms = ground.rooms
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        asking = await enter(Asking(ground.subscriptions, _calls(ground)))
        reported = await enter(reporting(ground, authority))
        states = reported.states
        received = await enter(Received(rooms, ground.subscriptions, ground.debug, states))
        chosen = await enter(choosing(ground, book))
        ruled = await ruling(ground)
        await enter(ruled.requests)
        focused = await enter(focusing(ground, authority))
        controllers = await enter(controlling(ground, restrictions, asking, reported, chosen, ruled, focused))
        lasting = await enter(LastingSubscriptions(rooms, asking, book, chosen.choices, restrictions))
        book.listen(lasting.announced)
        authority.revocation.add(GrantedSubscriptions(chosen.choices, asking))
        explaining = Explaining(ruled.policies, ground.reader, focused.focuses, states)
        yield Subscribed(chosen, ruled, explaining, focused, asking, reported, received, controllers, lasting)


def _calls(ground: Foundation) -> Callable[[bool, int], None]:
    """Counts calls of LiveKit's API, and the tracks in them."""
    calls = Counter(
        "track_subscription_calls",
        "Calls of LiveKit's UpdateSubscriptions.",
        ("subscribe",),
        registry=ground.registry,
    )
    tracks = Counter(
        "track_subscription_calls_tracks",
        "Tracks named in calls of LiveKit's UpdateSubscriptions.",
        ("subscribe",),
        registry=ground.registry,
    )

    def count(subscribe: bool, named: int) -> None:
        which = str(subscribe).lower()
        calls.labels(which).inc()
        tracks.labels(which).inc(named)

    return count
