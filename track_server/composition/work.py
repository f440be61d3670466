"""What the service does: its capabilities, and how they hear of one another."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from prometheus_client import Counter

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track_server.composition.authority import Authority
from track_server.composition.egress import Egress, recording
from track_server.composition.foundation import Foundation
from track_server.composition.hosting import Hosted, Workers, hosting
from track_server.composition.metadata import Described, describing
from track_server.composition.moderation import Moderated, moderating
from track_server.composition.private_tracks import Private, enforcing, restricting
from track_server.composition.pulling import pulling
from track_server.composition.quality import Measured, judging, measuring
from track_server.composition.quality_alerts import Alerted, alerting
from track_server.composition.quality_policies import Adapted, adapting
from track_server.composition.quality_streams import streaming
from track_server.composition.replacing import Replaced, replacing_tracks
from track_server.composition.routes import Routed, routing
from track_server.composition.subscriptions import Subscribed, subscribing
from track_server.composition.webhooks import Hooks, hooking
from track_server.localsocket.socket import LocalSocket
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import passed
from track_server.publishing.placement import OwnWorkers
from track_server.pulling.pulls import Pulls
from track_server.quality.streaming.streams import Streams
from track_server.rooms.excess import ExcessWatch


@dataclass(frozen=True, slots=True)
class Work:
    """The capabilities. What an earlier run left is read, and not begun: see ``resume``."""

    book: Book
    measured: Measured
    alerted: Alerted
    streams: Streams
    hosted: Hosted
    routed: Routed
    private: Private
    subscribed: Subscribed
    replaced: Replaced
    adapted: Adapted
    pulls: Pulls
    described: Described
    moderated: Moderated
    egress: Egress
    hooks: Hooks

    async def resume(self, stack: contextlib.AsyncExitStack) -> None:
        """Begins what an earlier run left. Sessions and enforcement end with the stack."""
        await stack.enter_async_context(self.hosted.sessions)
        await stack.enter_async_context(self.replaced.replacing)
        await stack.enter_async_context(self.replaced.restarts)
        await stack.enter_async_context(self.routed.clients)
        await stack.enter_async_context(self.routed.ingresses)
        self.hosted.feeds.restore()
        self.routed.routes.restore()
        await self.replaced.client_updates.restore()
        await stack.enter_async_context(self.private.enforcement)
        self.private.enforcement.restore()
        self.described.keeper.restore()
        self.subscribed.restore()
        self.adapted.restore()
        await self.moderated.restore()
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
        enter = stack.enter_async_context
        rooms, access = ground.rooms, authority.access
        book = Book(ground.store)
        await book.load()
        # First of all who hear of it: what follows from a move is told after it.
        book.listen(_telling(ground))
        rooms.contribute(book.contribute)
        restrictions = await enter(restricting(ground))
        workers = Workers(own_workers, media_address, await enter(LocalSocket()))
        measured = await enter(measuring(ground))
        alerted = await enter(alerting(ground, measured.assessing))
        streams = await enter(streaming(measured, alerted))
        hosted = await enter(
            hosting(
                ground,
                book,
                workers,
                measured.assessing,
                restricted=restrictions.restricted,
                on_audience=lambda room: private.enforcement.kick(room),  # noqa: PLW0108  it is made below
                may_have=restrictions.allows,
                admit=lambda *names: private.means.guests.admit(*names),  # noqa: PLW0108
                feed_ended=lambda publication: routed.routes.of(publication).kick(publication),
            )
        )
        private = enforcing(ground, book, hosted.sessions, restrictions)
        restrictions.listen(hosted.sessions.hear_anew)
        described = await enter(describing(ground, access, book))
        book.listen(described.keeper.publication_changed)
        egress = await enter(recording(ground, authority, measured, book.find))
        book.listen(lambda _, after: egress.recordings.publication_moved(after.room, after.publication_id))
        hooks = await enter(hooking(ground, authority, alerted.following))
        hooks.hints.listen(lambda hint: egress.follower.hint() if hint.egress_id else None)
        routed = routing(ground, authority, book, hosted.sessions)
        pulls = await enter(pulling(ground, authority, workers, private, measured.assessing))
        subscribed = await enter(subscribing(ground, authority, book, restrictions))
        replaced = replacing_tracks(ground, access, book, hosted, measured.quality, routed.clients, subscribed.lasting)
        judged = alerted.tallies.action_judged
        adapted = await enter(adapting(ground, book, measured.assessing, subscribed, replaced.restarts, judged))
        alerted.attainments.hold_to(adapted.policies.holding)
        moderated = await enter(moderating(ground, authority, hosted.feeds, hosted.sessions.unmute))
        judging(measured, subscribed)
        rooms.listen(ExcessWatch(rooms, ground.settings, _excess_counter(ground)).happened)
        yield Work(
            book,
            measured,
            alerted,
            streams,
            hosted,
            routed,
            private,
            subscribed,
            replaced,
            adapted,
            pulls,
            described,
            moderated,
            egress,
            hooks,
        )


def _telling(ground: Foundation) -> Callable[[Publication | None, Publication], None]:
    """Tells those who watch a room of its publications' moves."""

    def tell(before: Publication | None, after: Publication) -> None:
        if before is None or _visible(before) != _visible(after):
            for moved in passed(before, after):
                ground.rooms.announce(after.room, event_pb2.RoomEvent(publication_moved=moved))

    return tell


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
