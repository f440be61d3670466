"""What the state of the world forbids."""

from google.rpc import code_pb2

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


class FailedPrecondition(TrackError):
    """Base of what the state of the world forbids."""

    code = code_pb2.FAILED_PRECONDITION


class TargetPermission(FailedPrecondition):
    """The target's own LiveKit permissions do not allow the effect."""

    reason = ErrorReason.ERROR_REASON_TARGET_PERMISSION


class RemoteUnmuteDisabled(FailedPrecondition):
    """LiveKit's configuration forbids unmuting from the server."""

    reason = ErrorReason.ERROR_REASON_REMOTE_UNMUTE_DISABLED


class NotForDataTracks(FailedPrecondition):
    """The operation does not apply to data tracks."""

    reason = ErrorReason.ERROR_REASON_NOT_FOR_DATA_TRACKS


class LiveKitCredentials(FailedPrecondition):
    """LiveKit refuses this service's API key."""

    reason = ErrorReason.ERROR_REASON_LIVEKIT_CREDENTIALS


class PublicationEnded(FailedPrecondition):
    """The publication has ended."""

    reason = ErrorReason.ERROR_REASON_PUBLICATION_ENDED


class PublishFailed(FailedPrecondition):
    """LiveKit or the SDK refused to publish."""

    reason = ErrorReason.ERROR_REASON_PUBLISH_FAILED


class CompanionMissing(FailedPrecondition):
    """The participant's client has no companion."""

    reason = ErrorReason.ERROR_REASON_COMPANION_MISSING


class ConsentRefused(FailedPrecondition):
    """The participant's user, or the app's veto, said no."""

    reason = ErrorReason.ERROR_REASON_CONSENT_REFUSED


class CompanionFailed(FailedPrecondition):
    """The companion did not do what it was asked; metadata `status` tells its answer."""

    reason = ErrorReason.ERROR_REASON_COMPANION_FAILED


class IngressUnavailable(FailedPrecondition):
    """The LiveKit cluster has no Ingress service, or not the Redis that it needs."""

    reason = ErrorReason.ERROR_REASON_INGRESS_UNAVAILABLE


class RestartInProgress(FailedPrecondition):
    """The track is being restarted, or was a moment ago."""

    reason = ErrorReason.ERROR_REASON_RESTART_IN_PROGRESS


class PushInProgress(FailedPrecondition):
    """Another stream pushes frames into the publication."""

    reason = ErrorReason.ERROR_REASON_PUSH_IN_PROGRESS


class NotSupported(FailedPrecondition):
    """It cannot be done by this route, worker or client."""

    reason = ErrorReason.ERROR_REASON_NOT_SUPPORTED


class SubscriptionRuled(FailedPrecondition):
    """A subscription rule decides otherwise, and does not let the client choose; metadata `rule` has its name. Or an
    admin chose otherwise."""

    reason = ErrorReason.ERROR_REASON_SUBSCRIPTION_RULE


class TrackBlocked(FailedPrecondition):
    """A moderation block holds the track muted."""

    reason = ErrorReason.ERROR_REASON_TRACK_BLOCKED


class EgressUnavailable(FailedPrecondition):
    """No Egress service is attached to the LiveKit cluster, or not the Redis that it needs."""

    reason = ErrorReason.ERROR_REASON_EGRESS_UNAVAILABLE


class EncryptionKeyNeeded(FailedPrecondition):
    """The track is end-to-end encrypted, and cannot be read without its key, or not with this one."""

    reason = ErrorReason.ERROR_REASON_ENCRYPTION_KEY_NEEDED
