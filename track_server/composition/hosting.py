"""Hosted sessions: what they publish with, the frames that are pushed to them, and what they measure."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from track.media.v1.media_service_pb2 import SessionStats
from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Participant, Track
from track_server.composition.foundation import Foundation
from track_server.localsocket.socket import LocalSocket
from track_server.publishing.book import Book
from track_server.publishing.hosting import Sessions
from track_server.publishing.meters import Meters
from track_server.publishing.placement import OwnWorkers
from track_server.publishing.push.feeds import Feeds
from track_server.publishing.resources import Hosting
from track_server.quality.live.assessing import Assessing


@dataclass(frozen=True, slots=True)
class Workers:
    """The media workers: those that this server starts itself, which need not run yet, and where all find us."""

    own: OwnWorkers
    media_address: str
    """Where they find MediaService."""
    socket: LocalSocket
    """Where those on this machine fetch and bring media."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """The parts. The sessions are begun by whoever enters them."""

    meters: Meters
    feeds: Feeds
    sessions: Sessions


@contextlib.asynccontextmanager
async def hosting(
    ground: Foundation,
    book: Book,
    workers: Workers,
    assessing: Assessing,
    *,
    restricted: Callable[[str, str], bool],
    on_audience: Callable[[str], None],
    may_have: Callable[[Track, Participant], bool],
    admit: Callable[[str, str, str], contextlib.AbstractContextManager[None]],
    feed_ended: Callable[[Publication], None],
) -> AsyncIterator[Hosted]:
    """Hosted sessions for the span of the block.

    ``restricted``, ``on_audience``, ``may_have`` and ``admit``: see Hosting. ``feed_ended``: told of the publication
    that the end of its pushed frames has ended.
    """
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        assessing.demand(lambda room: sessions.refresh_stats(room))  # noqa: PLW0108  they are made below
        meters = Meters(lambda room: sessions.refresh_stats(room))  # noqa: PLW0108
        settings = ground.settings
        feeds = await enter(Feeds(book, ground.rooms.find, feed_ended, settings.max_frame_bytes, workers.socket))

        def measured(room: str, identity: str, stats: SessionStats) -> None:
            assessing.record(room, identity, stats)
            meters.record(stats)

        def stats_interval(room: str) -> float | None:
            return min(filter(None, (assessing.stats_interval(room), meters.interval(room))), default=None)

        resources = Hosting(
            ground.rooms,
            ground.api,
            ground.tokens,
            workers.own,
            book,
            workers.media_address,
            feeds.source,
            restricted,
            on_audience,
            may_have,
            admit,
        )
        sessions = Sessions(resources, measured, stats_interval)
        book.listen(lambda _, after: feeds.announced(after))
        yield Hosted(meters, feeds, sessions)
