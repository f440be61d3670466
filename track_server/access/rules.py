"""What a principal may do: pure decisions over its grants, as access.proto's `Permission` says.

A denial tells what grant is missing. It depends on the token and the request alone, never on what exists.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from track.v1.access_pb2 import Permission
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.access.principal import Grants, Principal
from track_server.errors import PermissionDenied

# Permissions that are not about a room: a request without `room` may only need one of these.
ROOMLESS: Final = frozenset({Permission.PERMISSION_READ_SERVER, Permission.PERMISSION_HOST_MEDIA})


def is_admin(principal: Principal, room: str) -> bool:
    """Whether the principal may act on everybody in the room: `roomAdmin` counts for the granted room alone."""
    grants = principal.grants
    return principal.unrestricted or (grants.room_admin and room != "" and grants.room == room)


def room_check(permission: "Permission.ValueType") -> Callable[[Principal, str], None]:
    """The check of what can be told from the room alone, for principal and room; it raises PermissionDenied.

    Passing is not enough to act: `require_target` decides about each participant that is acted on.
    """
    rule = _RULES.get(permission)
    if rule is None:
        return _nobody
    allows, needs = rule

    def check(principal: Principal, room: str) -> None:
        if not (principal.unrestricted or allows(principal, room)):
            raise PermissionDenied(f"The access token does not allow this: it needs {needs}.")

    return check


def room_level(permission: "Permission.ValueType", principal: Principal, room: str) -> None:
    """`room_check` at once."""
    room_check(permission)(principal, room)


def require_target(
    principal: Principal,
    permission: "Permission.ValueType",
    room: str,
    identity: str,
    *,
    source: "TrackSource.ValueType" = TrackSource.TRACK_SOURCE_UNSPECIFIED,
    track_type: "TrackType.ValueType" = TrackType.TRACK_TYPE_UNSPECIFIED,
) -> None:
    """Check that the principal may act on the participant ``identity`` of the room; raises PermissionDenied.

    For PERMISSION_PUBLISH and PERMISSION_MUTE, ``source`` and ``track_type`` are the track's; for
    PERMISSION_SUBSCRIBE they do not matter.
    """
    if is_admin(principal, room):
        return
    if not _joins(principal.grants, room) or principal.identity == "" or principal.identity != identity:
        raise PermissionDenied("The access token allows acting on its own participant only: others need roomAdmin.")
    if permission == Permission.PERMISSION_SUBSCRIBE:
        if not principal.grants.can_subscribe:
            raise PermissionDenied("The access token does not allow this: it needs canSubscribe, or roomAdmin.")
    elif permission in (Permission.PERMISSION_PUBLISH, Permission.PERMISSION_MUTE):
        _require_publishing(principal.grants, source, track_type)
    else:
        raise PermissionDenied("The access token does not allow this.")


class _Rule(NamedTuple):
    """What a permission takes, for programs and for people."""

    allows: Callable[[Principal, str], bool]
    needs: str


def _nobody(principal: Principal, room: str) -> None:
    raise PermissionDenied("Nobody may do this: it is declared without a permission.")


def _any(principal: Principal, room: str) -> bool:
    return True


def _reads(principal: Principal, room: str) -> bool:
    grants = principal.grants
    return grants.room_list or (grants.room == room != "" and (grants.room_join or grants.room_admin))


def _publishes(principal: Principal, room: str) -> bool:
    grants = principal.grants
    return is_admin(principal, room) or (_joins(grants, room) and (grants.can_publish or grants.can_publish_data))


def _subscribes(principal: Principal, room: str) -> bool:
    return is_admin(principal, room) or (_joins(principal.grants, room) and principal.grants.can_subscribe)


def _hosts(principal: Principal, room: str) -> bool:
    return principal.grants.agent


_PUBLISHING: Final = "roomAdmin of that room, or roomJoin of it with canPublish or canPublishData"
_RULES: Final = {
    Permission.PERMISSION_READ_SERVER: _Rule(_any, "nothing"),
    Permission.PERMISSION_READ_TRACKS: _Rule(_reads, "roomJoin or roomAdmin of that room, or roomList"),
    Permission.PERMISSION_PUBLISH: _Rule(_publishes, _PUBLISHING),
    Permission.PERMISSION_MUTE: _Rule(_publishes, _PUBLISHING),
    Permission.PERMISSION_SUBSCRIBE: _Rule(_subscribes, "roomAdmin of that room, or roomJoin of it with canSubscribe"),
    Permission.PERMISSION_HOST_MEDIA: _Rule(_hosts, "the agent grant"),
}


def _joins(grants: Grants, room: str) -> bool:
    return grants.room_join and room != "" and grants.room == room


def _require_publishing(grants: Grants, source: "TrackSource.ValueType", track_type: "TrackType.ValueType") -> None:
    if track_type == TrackType.TRACK_TYPE_DATA:
        if not grants.can_publish_data:
            raise PermissionDenied("The access token does not allow this: it needs canPublishData, or roomAdmin.")
        return
    if not grants.can_publish:
        raise PermissionDenied("The access token does not allow this: it needs canPublish, or roomAdmin.")
    if grants.can_publish_sources and source not in grants.can_publish_sources:
        raise PermissionDenied("The access token does not allow this: canPublishSources does not list the source.")
