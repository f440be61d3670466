"""Who calls, and what its LiveKit grants are."""

from dataclasses import dataclass, field
from functools import cached_property

from track.v1 import access_pb2
from track.v1.access_pb2 import PrincipalKind, TrackOperation
from track.v1.track_pb2 import TrackSource
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.keys import ApiKey


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
    room_create: bool = False
    room_record: bool = False
    agent: bool = False


@dataclass(frozen=True)
class Principal:
    """Who calls. ``expire_time``: seconds since 1970 UTC from which on it is nobody, or None: never."""

    identity: str
    """Identity as a participant of the granted room, or a service's name; empty for tokens that name none."""
    grants: Grants = field(default_factory=Grants)
    expire_time: float | None = None
    unrestricted: bool = False
    """May do everything in every room: the server runs without authentication."""
    operation: "TrackOperation.ValueType" = TrackOperation.TRACK_OPERATION_UNSPECIFIED
    """The one operation that its token is for; unspecified: whatever the grants allow."""
    bounds: Bounds = UNBOUNDED
    """Within which it may publish, by its token."""
    certificate: str = ""
    """Name of the client certificate by which it is known; empty: it brought a token."""
    key: ApiKey | None = field(default=None, compare=False, repr=False)
    """The API key that has signed its token; None: it brought none."""

    @cached_property
    def scope(self) -> tuple[str, str]:
        """What tells two principals apart: an identity means a participant of one room, not the same one everywhere."""
        return self.identity, self.grants.room

    @cached_property
    def kind(self) -> "PrincipalKind.ValueType":
        """What it is, by the widest of its grants."""
        if self.unrestricted:
            return PrincipalKind.PRINCIPAL_KIND_ANONYMOUS
        if self.grants.room_list:
            return PrincipalKind.PRINCIPAL_KIND_SERVICE
        if self.grants.room_admin:
            return PrincipalKind.PRINCIPAL_KIND_ADMIN
        return PrincipalKind.PRINCIPAL_KIND_PARTICIPANT

    @cached_property
    def message(self) -> access_pb2.Principal:
        """As the contract has it. Not to be changed."""
        grants = self.grants
        return access_pb2.Principal(
            kind=self.kind,
            identity=self.identity,
            grants=access_pb2.Grants(
                room=grants.room,
                room_join=grants.room_join,
                room_admin=grants.room_admin,
                room_list=grants.room_list,
                can_publish=grants.can_publish,
                can_publish_sources=sorted(grants.can_publish_sources),
                can_publish_data=grants.can_publish_data,
                can_subscribe=grants.can_subscribe,
                room_create=grants.room_create,
                room_record=grants.room_record,
            ),
            operation=self.operation,
            certificate=self.certificate,
        )

    @cached_property
    def fingerprint(self) -> bytes:
        """The same for principals that decisions cannot tell apart."""
        return self.message.SerializeToString(deterministic=True)

    @cached_property
    def rights(self) -> bytes:
        """The same for principals that may do the same, the bounds of their tokens included."""
        bounds = self.bounds.message().SerializeToString(deterministic=True)
        return len(bounds).to_bytes(4, "big") + bounds + self.fingerprint


def anonymous() -> Principal:
    """The principal of all calls where the server runs without authentication."""
    return Principal(identity="", unrestricted=True)


def remembered(message: access_pb2.Principal) -> Principal:
    """The principal that was kept as that message. It does not expire: what it asked for outlives its token."""
    grants = message.grants
    return Principal(
        identity=message.identity,
        grants=Grants(
            room=grants.room,
            room_join=grants.room_join,
            room_admin=grants.room_admin,
            room_list=grants.room_list,
            can_publish=grants.can_publish,
            can_publish_sources=frozenset(grants.can_publish_sources),
            can_publish_data=grants.can_publish_data,
            can_subscribe=grants.can_subscribe,
            room_create=grants.room_create,
            room_record=grants.room_record,
        ),
        unrestricted=message.kind == PrincipalKind.PRINCIPAL_KIND_ANONYMOUS,
        operation=message.operation,
        certificate=message.certificate,
    )
