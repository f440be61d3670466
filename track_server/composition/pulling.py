"""Pulling: its parts put together."""

from collections.abc import Callable

from track.media.v1.media_service_pb2 import PullSessionStats
from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.composition.hosting import Workers
from track_server.composition.private_tracks import Private
from track_server.pulling.pulls import Means, Pulls
from track_server.quality.live.assessing import Assessing
from track_server.quality.sources.pulls import pull_readings


def pulling(
    ground: Foundation, authority: Authority, workers: Workers, private: Private, assessing: Assessing
) -> Pulls:
    """What answers PullMedia, over the parts that keep private tracks. What it measures goes to ``assessing``."""
    means = Means(
        ground.rooms,
        ground.reader,
        ground.api,
        ground.tokens,
        workers.socket,
        workers.own,
        private.means.book,
        private.means.restrictions,
        private.admission,
        assessing.stats_interval,
        _assessed(assessing),
        _forgotten(assessing),
    )
    pulls = Pulls(means, authority.access, ground.settings)
    assessing.demand(pulls.refresh_stats)
    authority.revocation.add(pulls)
    return pulls


def _assessed(assessing: Assessing) -> Callable[[str, str, PullSessionStats], None]:
    """Hands on what sessions measure of rooms that are followed."""

    def take(room: str, identity: str, stats: PullSessionStats) -> None:
        found = assessing.of(room)
        if found is not None:
            arrival_s = assessing.clock.now().monotonic_s
            for flow, readings in pull_readings(stats, identity, found.live.model.tracks, arrival_s):
                assessing.add(room, flow, readings)

    return take


def _forgotten(assessing: Assessing) -> Callable[[str, str], None]:
    """Ends what was measured of a session that is over."""

    def forget(room: str, identity: str) -> None:
        found = assessing.of(room)
        if found is not None:
            for sid in found.live.model.tracks:
                for flow in found.flows(sid):
                    if flow.identity == identity:
                        found.end(flow)

    return forget
