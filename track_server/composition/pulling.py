"""Pulling: its parts put together."""

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.composition.hosting import Workers
from track_server.composition.private_tracks import Private
from track_server.pulling.pulls import Means, Pulls


def pulling(ground: Foundation, authority: Authority, workers: Workers, private: Private) -> Pulls:
    """What answers PullMedia, over the parts that keep private tracks."""
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
    )
    pulls = Pulls(means, authority.access, ground.settings)
    authority.revocation.add(pulls)
    return pulls
