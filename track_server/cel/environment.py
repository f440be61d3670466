"""What expressions may speak of, and how they are compiled."""

from functools import lru_cache
from typing import Final

from cel_expr_python import cel
from google.protobuf import descriptor_pool

from track.permission.v1 import permission_service_pb2
from track.v1 import (
    audit_pb2,
    egress_pb2,
    event_pb2,
    publication_pb2,
    quality_alert_pb2,
    quality_pb2,
    quality_policy_pb2,
    track_pb2,
)
from track_server.cel.faults import located
from track_server.errors import InvalidExpression

CONTAINER: Final = "track.v1"
VARIABLES: Final = {
    "track": track_pb2.Track.DESCRIPTOR.full_name,
    "publication": publication_pb2.Publication.DESCRIPTOR.full_name,
    "participant": track_pb2.Participant.DESCRIPTOR.full_name,
    "subscriber": track_pb2.Participant.DESCRIPTOR.full_name,
    "publisher": track_pb2.Participant.DESCRIPTOR.full_name,
    "quality": event_pb2.ParticipantQuality.DESCRIPTOR.full_name,
    "report": quality_pb2.TrackQualityReport.DESCRIPTOR.full_name,
    "alert": quality_alert_pb2.QualityAlert.DESCRIPTOR.full_name,
    "action": quality_policy_pb2.QualityAction.DESCRIPTOR.full_name,
    "entry": audit_pb2.AuditEntry.DESCRIPTOR.full_name,
    "egress": egress_pb2.TrackEgress.DESCRIPTOR.full_name,
    "event": event_pb2.RoomEvent.DESCRIPTOR.full_name,
    "check": permission_service_pb2.CheckPermissionRequest.DESCRIPTOR.full_name,
    "issue": permission_service_pb2.IssueTrackTokenRequest.DESCRIPTOR.full_name,
}
"""What an expression may speak of, and its type."""
TEXTS: Final = frozenset({"room"})
"""Likewise: names that are strings."""


@lru_cache(maxsize=64)
def environment(variables: tuple[str, ...]) -> cel.Env:
    """Where expressions over those variables are compiled."""
    return cel.NewEnv(
        descriptor_pool.Default(),
        variables={
            variable: cel.Type.STRING if variable in TEXTS else cel.Type(VARIABLES[variable]) for variable in variables
        },
        container=CONTAINER,
    )


def compile_bool(source: str, variables: tuple[str, ...], field: str) -> cel.Expression:
    """The expression, whose outcome is a bool or known when it is evaluated alone.

    Raises InvalidExpression with the position, and with what may have been meant, where it does not compile or is
    something else; for the empty expression too. ``field``: the request's field with it.
    """
    name = field.rpartition(".")[2]
    try:
        compiled = environment(variables).compile(source)
    except RuntimeError as error:
        raise located(str(error), source, variables, name, field) from error
    if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidExpression(
            f"the {name} must be a bool, but is {compiled.return_type().name()}",
            field=field,
            metadata={"line": "1", "column": "1"},
        )
    return compiled
