"""What a principal may do by its token: pure decisions over its grants, as access.proto's `Permission` says.

A denial tells what grant is missing. It depends on the token, the request and the caller's own participant, never on
what else exists.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from track.v1.access_pb2 import Permission, TrackOperation
from track.v1.track_pb2 import Participant, TrackType
from track_server.access.bounds import Bounds, Description
from track_server.access.principal import Grants, Principal
from track_server.access.question import Question
from track_server.errors import PermissionDenied

# Permissions that are about no room: a request that has no `room` at all may only need one of these. For the others an
# empty one means all rooms.
ROOMLESS: Final = frozenset(
    {
        Permission.PERMISSION_READ_SERVER,
        Permission.PERMISSION_HOST_MEDIA,
        Permission.PERMISSION_CHECK_PERMISSIONS,
    }
)

# What an operation token may be used for here, beside asking the server about itself.
_OPERATIONS: Final = {
    TrackOperation.TRACK_OPERATION_PUBLISH: Permission.PERMISSION_PUBLISH,
    TrackOperation.TRACK_OPERATION_SUBSCRIBE: Permission.PERMISSION_SUBSCRIBE,
    TrackOperation.TRACK_OPERATION_OBSERVE: Permission.PERMISSION_READ_TRACKS,
}

_NOTHING: Final = Description()


def is_admin(principal: Principal, room: str) -> bool:
    """Whether the principal may act on everybody in the room: `roomAdmin` counts for the granted room alone."""
    grants = principal.grants
    return principal.unrestricted or (grants.room_admin and room != "" and grants.room == room)


def within_token(principal: Principal, permission: "Permission.ValueType", room: str) -> None:
    """Raises PermissionDenied where the token is for another room or another operation, whoever decides about the rest.

    A token with `roomList` is about every room, one with `roomCreate` about all of them together.
    """
    if principal.unrestricted:
        return
    _within_operation(principal, permission)
    grants = principal.grants
    if grants.room_list:
        return
    if room == "":
        if permission not in ROOMLESS and not grants.room_create:
            raise PermissionDenied("without a room it is about all of them, which needs roomList or roomCreate")
    elif room != grants.room:
        raise PermissionDenied("the caller's grants are not about this room")


def admit(principal: Principal, permission: "Permission.ValueType", room: str) -> None:
    """Check what can be told from the room alone; raises PermissionDenied.

    Passing is not enough to act: `require` decides about each participant that is acted on.
    """
    _within_operation(principal, permission)
    allows, needs = _RULES.get(permission, _NOBODY)
    if not ((principal.unrestricted and permission in _RULES) or allows(principal, room)):
        raise PermissionDenied(f"the caller's grants do not allow this: it needs {needs}")


def require(principal: Principal, question: Question, live: Participant | None = None) -> Bounds:
    """Check that the principal may act on the question's participant; raises PermissionDenied.

    ``live``: the principal's own participant where it is in the room: what LiveKit has taken away from it since the
    token was made counts as taken away. Returns the bounds of an operation token, within which it may publish.
    """
    permission, room = question.permission, question.room
    if principal.unrestricted:
        return principal.bounds
    _within_operation(principal, permission)
    if permission == Permission.PERMISSION_RECORD:
        # It is about whatever is in the room, and nobody's own.
        admit(principal, permission, room)
        return principal.bounds
    if is_admin(principal, room):
        return principal.bounds
    described = question.described or _NOTHING
    grants = principal.grants
    if not _joins(grants, room) or principal.identity == "" or principal.identity != question.participant_identity:
        raise PermissionDenied("the caller may act on its own participant only: others need roomAdmin")
    check = _TARGETS.get(permission)
    if check is None:
        raise PermissionDenied("the caller's grants do not allow this")
    check(grants, described)
    if live is not None:
        try:
            check(held(grants, live), described)
        except PermissionDenied:
            raise PermissionDenied("LiveKit has taken this permission away from the participant") from None
    return principal.bounds


def held(grants: Grants, live: Participant) -> Grants:
    """What is left of the grants: those that the participant in the room still has."""
    permission = live.permission
    allowed = frozenset(permission.can_publish_sources)
    sources = grants.can_publish_sources
    can_publish = grants.can_publish and permission.can_publish
    if allowed and sources:
        can_publish = can_publish and bool(allowed & sources)
        sources = allowed & sources
    return replace(
        grants,
        can_publish=can_publish,
        can_publish_sources=sources or allowed,
        can_publish_data=grants.can_publish_data and permission.can_publish_data,
        can_subscribe=grants.can_subscribe and permission.can_subscribe,
    )


class _Rule(NamedTuple):
    """What a permission takes, for programs and for people."""

    allows: Callable[[Principal, str], bool]
    needs: str


def _within_operation(principal: Principal, permission: "Permission.ValueType") -> None:
    operation = principal.operation
    if operation and permission not in (_OPERATIONS.get(operation), Permission.PERMISSION_READ_SERVER):
        name = TrackOperation.Name(operation).removeprefix("TRACK_OPERATION_")
        raise PermissionDenied(f"the access token is for one operation alone: {name}")


def _nobody(principal: Principal, room: str) -> bool:
    return False


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


def _enters(principal: Principal, room: str) -> bool:
    return is_admin(principal, room) or (_joins(principal.grants, room) and principal.identity != "")


def _audits(principal: Principal, room: str) -> bool:
    return principal.grants.room_list or is_admin(principal, room)


def _writes_schemas(principal: Principal, room: str) -> bool:
    return principal.grants.room_create if room == "" else is_admin(principal, room)


def _manages_webhooks(principal: Principal, room: str) -> bool:
    grants = principal.grants
    return grants.room_create and grants.room_list if room == "" else is_admin(principal, room)


def _records(principal: Principal, room: str) -> bool:
    grants = principal.grants
    about = grants.room_create if room == "" else grants.room_list or grants.room == room
    return grants.room_record and about


def _hosts(principal: Principal, room: str) -> bool:
    # LiveKit gives every agent that it sends into a room a token with `agent` and the room: those are no workers.
    return principal.grants.agent and principal.grants.room == ""


_PUBLISHING: Final = "roomAdmin of that room, or roomJoin of it with canPublish or canPublishData"
_NOBODY: Final = _Rule(_nobody, "something that no token has")
_RULES: Final = {
    Permission.PERMISSION_READ_SERVER: _Rule(_any, "nothing"),
    Permission.PERMISSION_READ_TRACKS: _Rule(_reads, "roomJoin or roomAdmin of that room, or roomList"),
    Permission.PERMISSION_PUBLISH: _Rule(_publishes, _PUBLISHING),
    Permission.PERMISSION_MUTE: _Rule(_publishes, _PUBLISHING),
    Permission.PERMISSION_SUBSCRIBE: _Rule(_subscribes, "roomAdmin of that room, or roomJoin of it with canSubscribe"),
    Permission.PERMISSION_HOST_MEDIA: _Rule(_hosts, "the agent grant, and no room"),
    Permission.PERMISSION_RESTRICT_TRACK: _Rule(_publishes, _PUBLISHING),
    Permission.PERMISSION_CREATE_TOKEN: _Rule(_enters, "roomAdmin or roomJoin of that room"),
    Permission.PERMISSION_READ_AUDIT: _Rule(_audits, "roomAdmin of that room, or roomList"),
    Permission.PERMISSION_WRITE_METADATA: _Rule(_publishes, _PUBLISHING),
    Permission.PERMISSION_WRITE_SCHEMAS: _Rule(_writes_schemas, "roomAdmin of that room, or for all rooms roomCreate"),
    Permission.PERMISSION_MANAGE_WEBHOOKS: _Rule(
        _manages_webhooks, "roomAdmin of that room, or for all rooms roomCreate and roomList"
    ),
    Permission.PERMISSION_WRITE_SUBSCRIPTION_POLICIES: _Rule(is_admin, "roomAdmin of that room"),
    Permission.PERMISSION_REPORT_STATS: _Rule(_enters, "roomAdmin or roomJoin of that room"),
    Permission.PERMISSION_WRITE_QUALITY_POLICIES: _Rule(is_admin, "roomAdmin of that room"),
    Permission.PERMISSION_RECORD: _Rule(
        _records, "roomRecord with that room or roomList, or for all rooms roomRecord and roomCreate"
    ),
}


def _joins(grants: Grants, room: str) -> bool:
    return grants.room_join and room != "" and grants.room == room


def _receives(grants: Grants, described: Description) -> None:
    if not grants.can_subscribe:
        raise PermissionDenied("the caller's grants do not allow this: it needs canSubscribe, or roomAdmin")


def _sends(grants: Grants, described: Description) -> None:
    if described.type == TrackType.TRACK_TYPE_DATA:
        if not grants.can_publish_data:
            raise PermissionDenied("the caller's grants do not allow this: it needs canPublishData, or roomAdmin")
        return
    if not grants.can_publish:
        raise PermissionDenied("the caller's grants do not allow this: it needs canPublish, or roomAdmin")
    sources = grants.can_publish_sources
    if sources and described.source not in sources:
        raise PermissionDenied("the caller's grants do not allow this: canPublishSources does not list the source")


def _is_there(grants: Grants, described: Description) -> None:
    """Whoever may join may narrow what it has; the tokens' own grants are checked where they are made."""


_TARGETS: Final = {
    Permission.PERMISSION_PUBLISH: _sends,
    Permission.PERMISSION_MUTE: _sends,
    Permission.PERMISSION_RESTRICT_TRACK: _sends,
    Permission.PERMISSION_WRITE_METADATA: _sends,
    Permission.PERMISSION_SUBSCRIBE: _receives,
    Permission.PERMISSION_CREATE_TOKEN: _is_there,
    Permission.PERMISSION_REPORT_STATS: _is_there,
}
