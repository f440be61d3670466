"""What hosted sessions work with."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from track.media.v1 import media_service_pb2 as media
from track.v1.track_pb2 import Participant, Track
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.publishing.book import Book
from track_server.publishing.placement import OwnWorkers
from track_server.rooms.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Hosting:
    """What every session needs."""

    rooms: Rooms
    api: LiveKitApi
    tokens: TokenMint
    own_workers: OwnWorkers
    book: Book
    server_address: str
    """Where sessions find our MediaService."""
    push_source: Callable[[str], media.PushSource | None]
    """Where the frames of a publication are fetched, by its id; None where they are not pushed."""
    restricted: Callable[[str, str], bool]
    """Whether not everybody may subscribe to a publication, by room and id."""
    on_audience: Callable[[str], None]
    """Told of the room where LiveKit was told, or its worker was lost or came."""
    may_have: Callable[[Track, Participant], bool]
    """Whether the participant may subscribe to the track, by its rule."""
    admit: Callable[[str, str, str], AbstractContextManager[None]]
    """For the span of the block, lets a hidden participant (by room and identity) have the private tracks that another
    identity may have."""
