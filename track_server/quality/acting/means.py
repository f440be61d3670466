"""What acting works with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from track.v1.event_pb2 import EventCause
from track.v1.publication_update_pb2 import RestartTrackRequest, RestartTrackResponse
from track.v1.quality_policy_pb2 import QualityAction
from track.v1.subscription_pb2 import LayerTerm
from track_server.access.principal import Principal
from track_server.deadline import Deadline
from track_server.quality.abilities import Abilities
from track_server.quality.acting.hands import Hands
from track_server.quality.acting.history import ActionHistory
from track_server.quality.live.assessing import Assessing
from track_server.quality.policies.policies import Policies
from track_server.rooms.rooms import Rooms


class Terms(Protocol):
    """Where limits are set: see subscription.controller.Controllers."""

    def want(self, owner: str, room: str) -> None:
        """Limits are to be set in the room."""

    def release(self, owner: str, room: str) -> None:
        """No more."""

    def acting(self, room: str) -> bool:
        """Whether it is this server that decides there."""

    def limit(self, owner: str, room: str, identity: str, track_sid: str, term: LayerTerm | None) -> None:
        """Sets one, or takes it back."""


class Restarting(Protocol):
    """What restarts tracks: see publishing.restarting.Restarts."""

    async def restart(
        self, principal: Principal, request: RestartTrackRequest, deadline: Deadline, cause: EventCause
    ) -> RestartTrackResponse:
        """Restarts, and waits for the effect."""


@dataclass(frozen=True, slots=True)
class Means:
    """All of it. ``counted``: told of each action that is judged."""

    rooms: Rooms
    assessing: Assessing
    policies: Policies
    abilities: Abilities
    hands: Hands
    history: ActionHistory
    terms: Terms
    restarts: Restarting
    counted: Callable[[QualityAction], None]
