"""Pulling: its parts put together."""

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.localsocket.socket import LocalSocket
from track_server.publishing.placement import OwnWorkers
from track_server.pulling.pulls import Means, Pulls
from track_server.subscription.admission import Admission
from track_server.subscription.enforcement import Enforcement
from track_server.subscription.keeper import Means as Keeping


def pulling(
    ground: Foundation,
    authority: Authority,
    socket: LocalSocket,
    own: OwnWorkers,
    keeping: Keeping,
    enforcement: Enforcement,
) -> Pulls:
    """What answers PullMedia, over the parts that keep private tracks."""
    admission = Admission(keeping.guests, enforcement, keeping.sessions, keeping.restrictions)
    means = Means(
        ground.rooms,
        ground.reader,
        ground.api,
        ground.tokens,
        socket,
        own,
        keeping.book,
        keeping.restrictions,
        admission,
    )
    pulls = Pulls(means, authority.access, ground.settings)
    authority.revocation.add(pulls)
    return pulls
