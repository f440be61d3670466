"""What is not there, and what is there already."""

from google.rpc import code_pb2

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


class NotFound(TrackError):
    """Base of what is not there."""

    code = code_pb2.NOT_FOUND


class RoomNotFound(NotFound):
    """LiveKit has no such room."""

    reason = ErrorReason.ERROR_REASON_ROOM_NOT_FOUND


class ParticipantNotFound(NotFound):
    """No such participant in the room."""

    reason = ErrorReason.ERROR_REASON_PARTICIPANT_NOT_FOUND


class TrackNotFound(NotFound):
    """No such track in the room, or not that participant's."""

    reason = ErrorReason.ERROR_REASON_TRACK_NOT_FOUND


class PublicationNotFound(NotFound):
    """No such publication in the room."""

    reason = ErrorReason.ERROR_REASON_PUBLICATION_NOT_FOUND


class MediaNotFound(NotFound):
    """The file or URL is not there."""

    reason = ErrorReason.ERROR_REASON_MEDIA_NOT_FOUND


class IdentityInUse(TrackError):
    """A participant that is not ours holds the identity."""

    code = code_pb2.ALREADY_EXISTS
    reason = ErrorReason.ERROR_REASON_IDENTITY_IN_USE


class SourceInUse(TrackError):
    """The participant's client publishes that source already, or it has a data track of that name; one is allowed."""

    code = code_pb2.ALREADY_EXISTS
    reason = ErrorReason.ERROR_REASON_SOURCE_IN_USE


class SchemaNotFound(NotFound):
    """No such schema of metadata."""

    reason = ErrorReason.ERROR_REASON_SCHEMA_NOT_FOUND


class BlockNotFound(NotFound):
    """No such moderation block in the room."""

    reason = ErrorReason.ERROR_REASON_BLOCK_NOT_FOUND


class WebhookSubscriptionNotFound(NotFound):
    """No such webhook subscription."""

    reason = ErrorReason.ERROR_REASON_WEBHOOK_SUBSCRIPTION_NOT_FOUND


class EgressNotFound(NotFound):
    """No such recording in the room."""

    reason = ErrorReason.ERROR_REASON_EGRESS_NOT_FOUND


class EgressRuleNotFound(NotFound):
    """No such rule for recordings."""

    reason = ErrorReason.ERROR_REASON_EGRESS_RULE_NOT_FOUND


class SubscriptionPolicyNotFound(NotFound):
    """No such subscription policy."""

    reason = ErrorReason.ERROR_REASON_SUBSCRIPTION_POLICY_NOT_FOUND


class FocusNotFound(NotFound):
    """No such focus."""

    reason = ErrorReason.ERROR_REASON_FOCUS_NOT_FOUND


class QualityPolicyNotFound(NotFound):
    """No such quality policy."""

    reason = ErrorReason.ERROR_REASON_QUALITY_POLICY_NOT_FOUND


class EgressInProgress(TrackError):
    """The track is recorded to that place already; metadata `egress_id` names the recording."""

    code = code_pb2.ALREADY_EXISTS
    reason = ErrorReason.ERROR_REASON_EGRESS_IN_PROGRESS


class EtagMismatch(TrackError):
    """Somebody else changed it since; metadata `etag` has the state it is in."""

    code = code_pb2.ABORTED
    reason = ErrorReason.ERROR_REASON_ETAG_MISMATCH
