"""What the service does: publications and their sessions, quality, subscriptions, private tracks."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from prometheus_client import Counter

from track.media.v1.media_service_pb2 import SessionStats
from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track_server.access.question import Touch
from track_server.composition.authority import Authority
from track_server.composition.egress import Egress, recording
from track_server.composition.foundation import Foundation
from track_server.composition.metadata import Described, describing
from track_server.composition.moderation import Moderated, moderating
from track_server.composition.pulling import pulling
from track_server.composition.webhooks import Hooks, hooking
from track_server.livekit.ingress import IngressApi
from track_server.localsocket.socket import LocalSocket
from track_server.publishing.book import Book
from track_server.publishing.client.commands import Clients
from track_server.publishing.client.route import ClientRoute
from track_server.publishing.client.updates import ClientUpdates
from track_server.publishing.hosted_route import HostedRoute
from track_server.publishing.hosting import Sessions
from track_server.publishing.ingress.remnant import Ingresses
from track_server.publishing.ingress.route import IngressRoute
from track_server.publishing.lifecycle import ENDED, passed
from track_server.publishing.meters import Meters
from track_server.publishing.placement import OwnWorkers
from track_server.publishing.push.feeds import Feeds
from track_server.publishing.replacing import Replacing
from track_server.publishing.resources import Hosting
from track_server.publishing.restarting.restarts import Restarts
from track_server.publishing.restarting.resubscribing import Resubscribing
from track_server.publishing.restarting.steps import Steps
from track_server.publishing.routes import CLIENT, HOSTED, INGRESS, Routes
from track_server.publishing.standing import StandingPublications, report_revoked
from track_server.pulling.pulls import Pulls
from track_server.quality.quality import Quality
from track_server.rooms.excess import ExcessWatch
from track_server.rooms.withholding import Withholding
from track_server.subscription.enforcement import Enforcement
from track_server.subscription.granted import GrantedSubscriptions
from track_server.subscription.guests import Guests
from track_server.subscription.keeper import Means
from track_server.subscription.lasting import LastingSubscriptions
from track_server.subscription.restrictions import Restrictions


@dataclass(frozen=True, slots=True)
class Work:
    """The parts. What an earlier run left is read, and not begun: see ``resume``."""

    book: Book
    quality: Quality
    sessions: Sessions
    clients: ClientRoute
    client_updates: ClientUpdates
    ingresses: IngressRoute
    routes: Routes
    granted: GrantedSubscriptions
    lasting: LastingSubscriptions
    replacing: Replacing
    restarts: Restarts
    restrictions: Restrictions
    means: Means
    enforcement: Enforcement
    withholding: Withholding
    feeds: Feeds
    pulls: Pulls
    described: Described
    moderated: Moderated
    egress: Egress
    hooks: Hooks

    async def resume(self, stack: contextlib.AsyncExitStack) -> None:
        """Begins what an earlier run left. Sessions and enforcement end with the stack."""
        await stack.enter_async_context(self.sessions)
        await stack.enter_async_context(self.replacing)
        await stack.enter_async_context(self.restarts)
        await stack.enter_async_context(self.clients)
        await stack.enter_async_context(self.ingresses)
        self.feeds.restore()
        self.routes.restore()
        await self.client_updates.restore()
        await stack.enter_async_context(self.enforcement)
        self.enforcement.restore()
        await self.withholding.restore()
        self.described.keeper.restore()
        self.moderated.restore()
        await self.egress.restore()
        await self.hooks.webhooks.restore()


@contextlib.asynccontextmanager
async def working(
    ground: Foundation, authority: Authority, media_address: str, own_workers: OwnWorkers
) -> AsyncIterator[Work]:
    """The work for the span of the block. ``media_address``: where media workers find MediaService.

    ``own_workers``: those that this server starts itself; they need not run yet.
    """
    async with contextlib.AsyncExitStack() as stack:
        rooms, api, store = ground.rooms, ground.api, ground.store
        quality = await stack.enter_async_context(Quality(lambda room, _: sessions.refresh_stats(room)))

        def announce(before: Publication | None, after: Publication) -> None:
            if before is None or _visible(before) != _visible(after):
                for moved in passed(before, after):
                    rooms.announce(after.room, event_pb2.RoomEvent(publication_moved=moved))
            feeds.announced(after)
            lasting.announced(before, after)
            described.keeper.publication_changed(before, after)
            egress.recordings.publication_moved(after.room, after.publication_id)
            if after.state == ENDED:
                quality.forget(after.publication_id)
                report_revoked(authority.access, after)
            elif before is not None and before.muted != after.muted:
                quality.interrupt(after.publication_id)

        socket = await stack.enter_async_context(LocalSocket())
        feeds = await stack.enter_async_context(
            Feeds(
                lambda: book,
                rooms.find,
                lambda publication: routes.of(publication).kick(publication),
                ground.settings.max_frame_bytes,
                socket,
            )
        )
        withholding = await stack.enter_async_context(
            Withholding(
                api, store, lambda room, who: authority.revocation.changed(Touch(principal_identity=who, room=room))
            )
        )
        authority.revocation.overlook(withholding.temporary)
        book = Book(store, announce)
        await book.load()
        rooms.contribute(book.contribute)
        described = await stack.enter_async_context(describing(ground, authority.access, book))
        egress = await stack.enter_async_context(recording(ground, authority, quality, book.find))
        hooks = await stack.enter_async_context(hooking(ground, authority))
        hooks.hints.listen(lambda hint: egress.follower.hint() if hint.egress_id else None)
        # Before any session begins: a track must not be published before it is known to be private.
        restrictions = await stack.enter_async_context(Restrictions(store))
        await restrictions.load()
        hosting = Hosting(
            rooms,
            api,
            ground.tokens,
            own_workers,
            book,
            media_address,
            feeds.source,
            restrictions.restricted,
            lambda room: enforcement.kick(room),  # noqa: PLW0108  it is made below
        )
        meters = Meters(lambda room: sessions.refresh_stats(room))  # noqa: PLW0108  they are made below

        def measured(stats: SessionStats) -> None:
            quality.record(stats)
            meters.record(stats)

        def stats_interval(room: str) -> float | None:
            return min(filter(None, (quality.stats_interval(room), meters.interval(room))), default=None)

        sessions = Sessions(hosting, measured, stats_interval)
        clients = ClientRoute(Clients(rooms, api, book, ground.companion, ground.settings.client_return_seconds))
        rooms.listen(clients.happened)
        ingresses = IngressRoute(Ingresses(rooms, api, IngressApi(api), book, store), ground.settings.media_url_hosts)
        rooms.listen(ingresses.happened)
        routes = Routes({HOSTED: HostedRoute(api, book, sessions), CLIENT: clients, INGRESS: ingresses})
        means = Means(
            rooms,
            api,
            ground.subscriptions,
            ground.debug,
            book,
            sessions,
            restrictions,
            Guests(lambda room: enforcement.kick(room)),  # noqa: PLW0108  it is made below
        )
        enforcement = Enforcement(means)
        pulls = await stack.enter_async_context(pulling(ground, authority, socket, own_workers, means, enforcement))
        granted = GrantedSubscriptions(store, ground.subscriptions)
        await granted.load()
        lasting = await stack.enter_async_context(
            LastingSubscriptions(rooms, ground.subscriptions, store, book, granted, restrictions)
        )
        await lasting.load()
        replacing = Replacing(rooms, book, sessions, ground.debug, lasting)
        resubscribing = Resubscribing(ground.subscriptions, ground.debug, lasting, store)
        steps = Steps(
            rooms,
            book,
            sessions,
            replacing,
            resubscribing,
            lasting,
            clients,
            ground.companion,
            ground.debug,
            meters,
        )
        restarts = Restarts(
            rooms,
            api,
            book,
            authority.access,
            quality,
            steps,
            resubscribing,
            cooldown_s=ground.settings.restart_cooldown_seconds,
        )
        moderated = await stack.enter_async_context(moderating(ground, authority.access, feeds, sessions.unmute))
        rooms.listen(granted.happened)
        rooms.listen(ExcessWatch(rooms, ground.settings, _excess_counter(ground)).happened)
        authority.revocation.add(granted)
        authority.revocation.add(StandingPublications(rooms, book, routes))
        yield Work(
            book,
            quality,
            sessions,
            clients,
            ClientUpdates(book, store, clients, replacing),
            ingresses,
            routes,
            granted,
            lasting,
            replacing,
            restarts,
            restrictions,
            means,
            enforcement,
            withholding,
            feeds,
            pulls,
            described,
            moderated,
            egress,
            hooks,
        )


def _visible(publication: Publication) -> tuple[object, ...]:
    """What is told to those who watch, whenever it changes."""
    shown = publication
    return shown.state, shown.muted, shown.degraded, shown.consent, shown.track_sid, shown.spec


def _excess_counter(ground: Foundation) -> Callable[[str], None]:
    exceeded = Counter(
        "track_limits_exceeded",
        "Times that what others publish went beyond a limit.",
        ("limit",),
        registry=ground.registry,
    )
    return lambda limit: exceeded.labels(limit).inc()
