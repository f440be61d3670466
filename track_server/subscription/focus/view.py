"""What a focus makes of the tracks of a room, for one subscriber."""

from collections.abc import Mapping
from dataclasses import dataclass

from track.v1.subscription_pb2 import FocusRank, SubscriptionSettings


@dataclass(frozen=True, slots=True)
class Focused:
    """A track in focus. ``priority``: 66 to 100, 100 first."""

    rank: "FocusRank.ValueType"
    priority: int


@dataclass(frozen=True, slots=True)
class FocusView:
    """What is in focus now, as it is debounced."""

    tracks: Mapping[str, Focused]
    """By SID, the most important first. Sound too. A track of the room that is not here is not in focus."""
    others: SubscriptionSettings
    """How video that is not in focus is received, the default filled in. Never changed in place; no `priority`."""
