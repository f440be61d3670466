"""Who calls, and what its LiveKit grants are."""

from dataclasses import dataclass, field

from track.v1.track_pb2 import TrackSource


@dataclass(frozen=True, slots=True)
class Grants:
    """The grants of a LiveKit access token that matter here, with LiveKit's defaults filled in."""

    room: str = ""
    """The one room that the other grants are about; empty: none."""
    room_join: bool = False
    room_admin: bool = False
    room_list: bool = False
    can_publish: bool = False
    can_publish_sources: frozenset["TrackSource.ValueType"] = frozenset()
    """The only sources that may be published; empty: all."""
    can_publish_data: bool = False
    can_subscribe: bool = False
    agent: bool = False


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. ``expire_time``: seconds since 1970 UTC from which on it is nobody, or None: never."""

    identity: str
    """Identity as a participant of the granted room; empty for tokens that name none."""
    grants: Grants = field(default_factory=Grants)
    expire_time: float | None = None
    unrestricted: bool = False
    """May do everything in every room: the server runs without authentication."""

    @property
    def scope(self) -> tuple[str, str]:
        """What tells two principals apart: an identity means a participant of one room, not the same one everywhere."""
        return self.identity, self.grants.room


def anonymous() -> Principal:
    """The principal of all calls where the server runs without authentication."""
    return Principal(identity="", unrestricted=True)
