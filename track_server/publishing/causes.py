"""Who is named in the events of a publication and its tracks, where a command or a rule causes them."""

import contextlib
from collections.abc import Iterator
from typing import Final

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track_server.rooms.rooms import Rooms

_MOVED: Final = "publication_moved"
# Sessions and clients that must publish anew take that long where machines are busy.
_WITHIN_S: Final = 30.0


@contextlib.contextmanager
def moving(rooms: Rooms, publication: Publication, cause: event_pb2.EventCause) -> Iterator[None]:
    """In the block the publication is given another state, because of that."""
    room, publication_id = publication.room, publication.publication_id
    rooms.attribute(room, _MOVED, publication_id, cause)
    try:
        yield
    finally:
        rooms.unattribute(room, _MOVED, publication_id)


def publishing(rooms: Rooms, publication: Publication, cause: event_pb2.EventCause) -> None:
    """Its next track comes because of that."""
    rooms.attribute(publication.room, "track_published", publication.publication_id, cause, within_s=_WITHIN_S)


def unpublishing(rooms: Rooms, publication: Publication, cause: event_pb2.EventCause) -> None:
    """Its track goes because of that."""
    if publication.track_sid:
        rooms.attribute(publication.room, "track_unpublished", publication.track_sid, cause, within_s=_WITHIN_S)


def replacing(rooms: Rooms, publication: Publication, cause: event_pb2.EventCause) -> None:
    """Its track goes, and another one comes, because of that."""
    state, track_sid = publication.state, publication.track_sid

    def another(event: event_pb2.RoomEvent) -> bool:
        moved = event.publication_moved
        return (moved.state, moved.track_sid) != (state, track_sid)

    rooms.attribute(publication.room, _MOVED, publication.publication_id, cause, another, within_s=_WITHIN_S)
    publishing(rooms, publication, cause)
    unpublishing(rooms, publication, cause)
