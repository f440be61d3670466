"""What the quality reports need of a live room."""

from collections.abc import Callable, Mapping
from typing import Protocol

from track.v1.event_pb2 import ParticipantQuality
from track.v1.track_pb2 import Freshness, Participant, Track


class Model(Protocol):
    """Who and what is in the room. The messages are never changed in place."""

    @property
    def version(self) -> int:
        """Grows with every change."""

    @property
    def participants(self) -> Mapping[str, Participant]:
        """By identity."""

    @property
    def tracks(self) -> Mapping[str, Track]:
        """By SID, with the publication behind each filled in."""

    @property
    def qualities(self) -> Mapping[str, ParticipantQuality]:
        """LiveKit's last word on each publisher, by identity."""


class Room(Protocol):
    """A live room, which the caller keeps watched while it is used here."""

    @property
    def name(self) -> str:
        """The room's name."""

    @property
    def model(self) -> Model:
        """The room as it is now."""

    @property
    def closed(self) -> bool:
        """Whether LiveKit closed it."""

    def freshness(self) -> Freshness:
        """How current the model is."""

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s`` seconds. Says whether it holds."""

    async def wait_closed(self) -> None:
        """Returns when LiveKit closed the room."""
