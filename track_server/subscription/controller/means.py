"""What the controllers work with, and what a subscriber in a room is to them."""

from collections.abc import Callable
from dataclasses import dataclass

from track_server.audit.recorder import Recorder
from track_server.livekit.api import LiveKitApi
from track_server.private_tracks.restrictions import Restrictions
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.leases import Leases
from track_server.subscription.choices import Choices
from track_server.subscription.controller.asking import Asking
from track_server.subscription.controller.claims import Claims
from track_server.subscription.controller.client_layers import ClientLayers
from track_server.subscription.controller.limits import Limits
from track_server.subscription.controller.takings import Takings
from track_server.subscription.focus.focuses import Focuses
from track_server.subscription.policies.policies import Policies
from track_server.subscription.states.attendance import Attendance
from track_server.subscription.states.states import SubscriberStates


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted: decisions about pairs, by how many were made at once; and corrections."""

    decided: Callable[[int], None]
    corrected: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Means:
    """All of it."""

    rooms: Rooms
    standing: Standing
    api: LiveKitApi
    subscriptions: Subscriptions
    asking: Asking
    claims: Claims
    client_layers: ClientLayers
    policies: Policies
    focuses: Focuses
    choices: Choices
    states: SubscriberStates
    attendance: Attendance
    restrictions: Restrictions
    limits: Limits
    takings: Takings
    leases: Leases
    recorder: Recorder
    counts: Counts

    def concerns(self, room: str) -> bool:
        """Whether anything is said of subscriptions in the room."""
        return (
            self.policies.concerns(room)
            or self.focuses.concerns(room)
            or self.choices.concerns(room)
            or self.limits.concerns(room)
            or self.states.concerns(room)
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of one subscriber in one life of a room. ``may_act``: whether this server has the room's lease.

    ``moved`` is called whenever something came about.
    """

    live: LiveRoom
    identity: str
    participant_sid: str
    may_act: Callable[[], bool]
    moved: Callable[[], None]
