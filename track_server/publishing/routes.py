"""The routes to publish: by this service's own sessions, by a participant's client, by Ingress."""

from collections.abc import Mapping
from typing import Final, Protocol

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Publication, PublicationRoute, PublicationSpec
from track_server.errors import InvalidOptions, NotSupported
from track_server.rooms.room import LiveRoom

HOSTED: Final = PublicationRoute.PUBLICATION_ROUTE_HOSTED
CLIENT: Final = PublicationRoute.PUBLICATION_ROUTE_CLIENT
INGRESS: Final = PublicationRoute.PUBLICATION_ROUTE_INGRESS

_ONLY: Final[Mapping[str, "PublicationRoute.ValueType"]] = {"device": CLIENT, "ingress": INGRESS}


class Route(Protocol):
    """Has publications published. It reads what is wanted from the Book, and writes there what became of it."""

    async def refuse(self, publication: Publication, live: LiveRoom | None) -> None:
        """Raises TrackError where the room or the participant does not allow a new publication; ``live`` is None where
        the room does not exist yet. Does nothing."""

    def kick(self, publication: Publication) -> None:
        """Something else is wanted of the publication: it is new, has changed, or has ended. Returns at once."""

    def restore(self) -> None:
        """Takes up the publications of the route that an earlier run left. Returns at once."""


class Routes:
    """The routes that this server has."""

    def __init__(self, routes: "Mapping[PublicationRoute.ValueType, Route]") -> None:
        self._routes = dict(routes)

    def of(self, publication: Publication) -> Route:
        """Its route. Raises NotSupported where this server does not have it."""
        try:
            return self._routes[publication.route]
        except KeyError:
            name = PublicationRoute.Name(publication.route).removeprefix("PUBLICATION_ROUTE_")
            raise NotSupported(f"this server does not publish by route {name}", field="route") from None

    def restore(self) -> None:
        """Takes up what an earlier run left."""
        for route in self._routes.values():
            route.restore()


def route_of(
    asked: "PublicationRoute.ValueType", spec: PublicationSpec
) -> "publication_pb2.PublicationRoute.ValueType":
    """The route of a spec, ``asked`` for or by default. Raises InvalidOptions where it does not go with the input."""
    kind = spec.WhichOneof("input") or ""
    only = _ONLY.get(kind, HOSTED)
    if asked and asked != only:
        name = PublicationRoute.Name(only).removeprefix("PUBLICATION_ROUTE_")
        raise InvalidOptions(f"{kind} is published by route {name} alone", field="route")
    return only
