"""Rows of the record of operations about corrected subscriptions."""

from track.v1 import publication_pb2
from track.v1.access_pb2 import Permission
from track.v1.audit_pb2 import AuditEntry, AuditTarget
from track.v1.subscription_pb2 import SubscriptionCorrected
from track_server.rooms.room import now
from track_server.texts import cleaned


def row_of(rule: str, room: str, corrected: SubscriptionCorrected) -> AuditEntry:
    """LiveKit was asked to set right what a client did against ``rule``, as causes name it."""
    target = AuditTarget(
        participant_identity=corrected.participant_identity,
        track_sid=corrected.track_sid,
        stage=publication_pb2.STAGE_REQUESTED,
    )
    entry = AuditEntry(time=now(), method=rule, permission=Permission.PERMISSION_SUBSCRIBE, room=room, targets=[target])
    entry.request.update(
        {"rule": cleaned(corrected.rule), "subscribed": corrected.subscribed, "times": corrected.times}
    )
    return entry
