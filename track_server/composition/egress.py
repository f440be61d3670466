"""Recordings through LiveKit Egress: their book, what follows them, and the rules that start them."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track.v1.egress_pb2 import TrackEgress
from track.v1.event_pb2 import EventCause
from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.composition.quality import Measured
from track_server.egress.book import EgressBook
from track_server.egress.follower import Follower
from track_server.egress.outputs import Places
from track_server.egress.recording import Means
from track_server.egress.recordings import Recordings
from track_server.egress.requests import EgressCalls
from track_server.egress.rules import EgressRules
from track_server.egress.scene import FindPublication
from track_server.egress.starts import Starts
from track_server.egress.timeline import Timelines
from track_server.livekit.egress import EgressApi


@dataclass(frozen=True, slots=True)
class Egress:
    """The parts."""

    calls: EgressCalls
    rules: EgressRules
    recordings: Recordings
    follower: Follower

    async def restore(self) -> None:
        """Goes on with what an earlier run left."""
        await self.recordings.restore()
        await self.rules.load()


@contextlib.asynccontextmanager
async def recording(
    ground: Foundation, authority: Authority, measured: Measured, find_publication: FindPublication
) -> AsyncIterator[Egress]:
    """Recordings for the span of the block. What an earlier run left is read, and begun by ``restore``."""
    async with contextlib.AsyncExitStack() as stack:
        settings, rooms, store = ground.settings, ground.rooms, ground.store
        api = EgressApi(ground.api)

        def moved(before: TrackEgress | None, after: TrackEgress, cause: EventCause | None) -> None:
            recordings.moved(before, after, cause)

        book = EgressBook(store, moved)
        await book.load()
        starts = await stack.enter_async_context(Starts(api, book, store, settings.egress_start_seconds))
        follower = await stack.enter_async_context(Follower(api, book, settings.egress_silence_seconds))
        timelines = Timelines(store, book, measured.quality.sample, measured.assessing.following, settings.egress_dir)
        means = Means(rooms, api, book, starts, timelines, find_publication, follower.hint)
        recordings = await stack.enter_async_context(Recordings(means, settings))
        places = Places(settings.egress_file_prefixes, settings.egress_buckets, settings.egress_websocket_hosts)
        rules = await stack.enter_async_context(
            EgressRules(rooms, ground.standing, store, recordings, places, settings)
        )
        rooms.listen(recordings.happened)
        rooms.listen(rules.happened)
        rooms.contribute(recordings.contribute)
        ground.standing.listen(rules.came)
        authority.revocation.add(recordings.standing)
        authority.revocation.add(rules.standing)
        yield Egress(EgressCalls(means, recordings, places, authority.access), rules, recordings, follower)
