"""Tracks that take another's place: with other settings, or begun again."""

from dataclasses import dataclass

from track_server.access.access import Access
from track_server.composition.foundation import Foundation
from track_server.composition.hosting import Hosted
from track_server.publishing.book import Book
from track_server.publishing.client.route import ClientRoute
from track_server.publishing.client.updates import ClientUpdates
from track_server.publishing.replacing import Replacing
from track_server.publishing.restarting.restarts import Restarts
from track_server.publishing.restarting.resubscribing import Resubscribing
from track_server.publishing.restarting.steps import Steps
from track_server.quality.live.quality import Quality
from track_server.subscription.lasting import LastingSubscriptions


@dataclass(frozen=True, slots=True)
class Replaced:
    """The parts. They are begun by whoever enters them."""

    replacing: Replacing
    restarts: Restarts
    client_updates: ClientUpdates


def replacing_tracks(
    ground: Foundation,
    access: Access,
    book: Book,
    hosted: Hosted,
    quality: Quality,
    clients: ClientRoute,
    lasting: LastingSubscriptions,
) -> Replaced:
    """What replaces tracks, and carries their subscribers over."""
    rooms = ground.rooms
    replacing = Replacing(rooms, book, hosted.sessions, ground.debug, lasting)
    resubscribing = Resubscribing(ground.subscriptions, ground.debug, lasting, ground.store)
    steps = Steps(
        rooms,
        book,
        hosted.sessions,
        replacing,
        resubscribing,
        lasting,
        clients,
        ground.companion,
        ground.debug,
        hosted.meters,
    )
    restarts = Restarts(
        rooms,
        ground.api,
        book,
        access,
        quality,
        steps,
        resubscribing,
        cooldown_s=ground.settings.restart_cooldown_seconds,
    )
    return Replaced(replacing, restarts, ClientUpdates(book, ground.store, clients, replacing))
