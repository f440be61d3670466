"""Rows of the record of operations about what rules of this service do by themselves."""

from collections.abc import Mapping

from track.v1 import error_pb2, publication_pb2
from track.v1.access_pb2 import Permission
from track.v1.audit_pb2 import AuditEntry, AuditTarget
from track_server.errors import TrackError
from track_server.rooms.room import now
from track_server.texts import cleaned


def row_of(
    rule: str,
    room: str,
    target: AuditTarget,
    facts: Mapping[str, str | int],
    failure: TrackError | None = None,
) -> AuditEntry:
    """The row of a rule that acted on one target. ``facts``: in the place of a request; empty ones are left out."""
    entry = AuditEntry(time=now(), method=rule, permission=Permission.PERMISSION_MUTE, room=room, targets=[target])
    told = {name: cleaned(fact) if isinstance(fact, str) else fact for name, fact in facts.items() if fact}
    entry.request.update(told)
    if failure is not None:
        problem = failure.problem()
        entry.code, entry.reason, entry.message = problem.code, problem.reason, problem.message
        entry.targets[0].problem.CopyFrom(error_pb2.Problem(code=problem.code, reason=problem.reason))
    return entry


def muted(identity: str, track_sid: str) -> AuditTarget:
    """A track that was seen to be muted, or unmuted."""
    return AuditTarget(participant_identity=identity, track_sid=track_sid, stage=publication_pb2.STAGE_OBSERVED)
