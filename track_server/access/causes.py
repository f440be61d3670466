"""What a call is to those who watch a room: who caused a change, and why."""

from track.v1.event_pb2 import EventCause
from track_server.access.principal import Principal


def cause_of(principal: Principal, *, request_id: str, reason: str = "") -> EventCause:
    """A call of the principal. ``request_id``: of the call, as in the record of operations; ``reason``: as it said."""
    return EventCause(
        principal_kind=principal.kind,
        principal_identity=principal.identity,
        request_id=request_id,
        reason=reason,
    )
