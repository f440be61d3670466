"""The routes to publish: hosted sessions, participants' own clients, LiveKit Ingress."""

from dataclasses import dataclass

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.livekit.ingress import IngressApi
from track_server.publishing.book import Book
from track_server.publishing.client.commands import Clients
from track_server.publishing.client.route import ClientRoute
from track_server.publishing.hosted_route import HostedRoute
from track_server.publishing.hosting import Sessions
from track_server.publishing.ingress.remnant import Ingresses
from track_server.publishing.ingress.route import IngressRoute
from track_server.publishing.routes import CLIENT, HOSTED, INGRESS, Routes
from track_server.publishing.standing import StandingPublications, report_revoked


@dataclass(frozen=True, slots=True)
class Routed:
    """The parts. Those that have an end are begun by whoever enters them."""

    routes: Routes
    clients: ClientRoute
    ingresses: IngressRoute


def routing(ground: Foundation, authority: Authority, book: Book, sessions: Sessions) -> Routed:
    """The routes, which hear of what happens in rooms; and whether what they publish may go on is asked again."""
    rooms, api = ground.rooms, ground.api
    clients = ClientRoute(Clients(rooms, api, book, ground.companion, ground.settings.client_return_seconds))
    ingresses = IngressRoute(
        Ingresses(rooms, api, IngressApi(api), book, ground.store), ground.settings.media_url_hosts
    )
    routes = Routes({HOSTED: HostedRoute(api, book, sessions), CLIENT: clients, INGRESS: ingresses})
    rooms.listen(clients.happened)
    rooms.listen(ingresses.happened)
    book.listen(lambda _, after: report_revoked(authority.access, after))
    authority.revocation.add(StandingPublications(rooms, book, routes))
    return Routed(routes, clients, ingresses)
