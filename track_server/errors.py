"""Every error of this service.

    TrackError
    |- InvalidArgument       InvalidField, InvalidExpression, InvalidPageToken, InvalidCursor, RequestIdReused,
    |                        InvalidOptions, MediaInvalid, MediaNotAllowed, InvalidConsistencyToken
    |- NotFound              RoomNotFound, ParticipantNotFound, TrackNotFound, PublicationNotFound, MediaNotFound
    |- FailedPrecondition    TargetPermission, RemoteUnmuteDisabled, NotForDataTracks,
    |                        LiveKitCredentials, PublicationEnded, PublishFailed
    |- Unavailable           LiveKitUnavailable, WorkerUnavailable, Draining, PermissionServiceUnavailable,
    |                        ConsistencyNotReached, ConnectionTooOld, StoreUnavailable
    `- LimitExceeded, IdentityInUse, Unauthenticated, PermissionDenied, DeadlineTooShort, LiveKitError, Internal

The class is the table: it gives the gRPC status code and the reason. The message of an error is public; what must not
leave the service is its ``__cause__``, which is logged and never sent.
"""

from collections.abc import Mapping

from google.protobuf import duration_pb2
from google.rpc import code_pb2

from track.v1 import error_pb2
from track.v1.error_pb2 import ErrorReason


class TrackError(Exception):
    """Base of all errors that a caller may see.

    ``message``: one public sentence. ``field``: the request field at fault, or "". ``retry_delay_s``: when to try
    again, in seconds, or None where trying again does not help. ``metadata``: further facts for ErrorInfo.
    """

    code: int = code_pb2.INTERNAL
    reason: ErrorReason.ValueType = ErrorReason.ERROR_REASON_INTERNAL

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_delay_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_delay_s = retry_delay_s
        self.metadata: dict[str, str] = dict(metadata or {})

    def problem(self, field: str = "") -> error_pb2.Problem:
        """The error as the contract's Problem; ``field`` overrides the error's own."""
        problem = error_pb2.Problem(code=self.code, reason=self.reason, message=self.message, field=field or self.field)
        if self.retry_delay_s is not None:
            problem.retry_delay.CopyFrom(duration_of(self.retry_delay_s))
        return problem


class ProblemError(TrackError):
    """A Problem that was received or stored, raised as the failure of a call."""

    def __init__(self, problem: error_pb2.Problem) -> None:
        retry = problem.retry_delay.ToTimedelta().total_seconds() if problem.HasField("retry_delay") else None
        super().__init__(problem.message, field=problem.field, retry_delay_s=retry)
        self.code = problem.code
        self.reason = problem.reason


class InvalidArgument(TrackError):
    """Base of what is wrong with the request itself."""

    code = code_pb2.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_INVALID_FIELD


class InvalidField(InvalidArgument):
    """A field is out of its range."""


class InvalidExpression(InvalidArgument):
    """A CEL expression does not compile; metadata `line` and `column` count from 1."""

    reason = ErrorReason.ERROR_REASON_INVALID_EXPRESSION


class InvalidPageToken(InvalidArgument):
    """The page token is damaged or belongs to another query."""

    reason = ErrorReason.ERROR_REASON_INVALID_PAGE_TOKEN


class InvalidCursor(InvalidArgument):
    """The cursor is not one of ours."""

    reason = ErrorReason.ERROR_REASON_INVALID_CURSOR


class RequestIdReused(InvalidArgument):
    """The request_id came before with other contents."""

    reason = ErrorReason.ERROR_REASON_REQUEST_ID_REUSED


class InvalidOptions(InvalidArgument):
    """Options contradict each other or the codec."""

    reason = ErrorReason.ERROR_REASON_INVALID_OPTIONS


class MediaInvalid(InvalidArgument):
    """No media that can be read, or no stream of the wanted type."""

    reason = ErrorReason.ERROR_REASON_MEDIA_INVALID


class MediaNotAllowed(InvalidArgument):
    """Outside the allowed folder, scheme or hosts."""

    reason = ErrorReason.ERROR_REASON_MEDIA_NOT_ALLOWED


class InvalidConsistencyToken(InvalidArgument):
    """The consistency token is not one of ours."""

    reason = ErrorReason.ERROR_REASON_INVALID_CONSISTENCY_TOKEN


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


class Unauthenticated(TrackError):
    """No or no valid credentials.

    ``cause``: a short name of a closed set, to count by. It is not sent: it may tell more than a stranger is to know.
    """

    code = code_pb2.UNAUTHENTICATED
    reason = ErrorReason.ERROR_REASON_UNAUTHENTICATED

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_delay_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
        cause: str = "other",
    ) -> None:
        super().__init__(message, field=field, retry_delay_s=retry_delay_s, metadata=metadata)
        self.cause = cause


class PermissionDenied(TrackError):
    """The caller may not do this."""

    code = code_pb2.PERMISSION_DENIED
    reason = ErrorReason.ERROR_REASON_PERMISSION_DENIED


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


class Unavailable(TrackError):
    """Base of what may work later; always carries a retry delay."""

    code = code_pb2.UNAVAILABLE
    reason = ErrorReason.ERROR_REASON_LIVEKIT_UNAVAILABLE

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_delay_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        delay = 1.0 if retry_delay_s is None else retry_delay_s
        super().__init__(message, field=field, retry_delay_s=delay, metadata=metadata)


class LiveKitUnavailable(Unavailable):
    """LiveKit does not answer."""


class WorkerUnavailable(Unavailable):
    """No media worker took the session."""

    reason = ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE


class Draining(Unavailable):
    """The server is shutting down."""

    reason = ErrorReason.ERROR_REASON_DRAINING


class PermissionServiceUnavailable(Unavailable):
    """The permission service does not answer, or not in a form that can be understood."""

    reason = ErrorReason.ERROR_REASON_PERMISSION_SERVICE_UNAVAILABLE


class PermissionsChanging(PermissionServiceUnavailable):
    """The permission service answers, but each answer was overtaken by a change that may concern it."""


class ConsistencyNotReached(Unavailable):
    """This server is not as far as the consistency token demands."""

    reason = ErrorReason.ERROR_REASON_CONSISTENCY_NOT_REACHED


class ConnectionTooOld(Unavailable):
    """The connection has reached ``age_s`` seconds, the age at which streams move to another one."""

    reason = ErrorReason.ERROR_REASON_CONNECTION_AGE

    def __init__(self, age_s: float) -> None:
        super().__init__(
            f"max_connection_age_seconds is {age_s:g}; open the stream again",
            retry_delay_s=0.1,
            metadata={"limit": "max_connection_age_seconds", "value": f"{age_s:g}"},
        )


class StoreUnavailable(Unavailable):
    """The store does not work; nothing is changed while it cannot be written."""

    reason = ErrorReason.ERROR_REASON_STORE_UNAVAILABLE


class LimitExceeded(TrackError):
    """A limit of this server is reached.

    ``limit``: its name, that of its setting; ``value``: the limit's value; ``subject``: for whom it is counted, e.g.
    ``room demo``. They go out as QuotaFailure. ``retry_delay_s``: given where waiting helps.
    """

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = ErrorReason.ERROR_REASON_LIMIT_EXCEEDED

    def __init__(
        self, limit: str, value: float, subject: str, *, field: str = "", retry_delay_s: float | None = None
    ) -> None:
        super().__init__(
            f"beyond the limit of {subject}: {limit} is {value:.15g}",
            field=field,
            retry_delay_s=retry_delay_s,
            metadata={"limit": limit, "value": f"{value:.15g}", "subject": subject},
        )
        self.limit = limit
        self.value = value
        self.subject = subject


class DeadlineTooShort(TrackError):
    """The deadline is too short to begin."""

    code = code_pb2.DEADLINE_EXCEEDED
    reason = ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT


class LiveKitError(TrackError):
    """LiveKit answered with an error that has no better name."""

    reason = ErrorReason.ERROR_REASON_LIVEKIT_ERROR


class Internal(TrackError):
    """A fault of ours."""


def duration_of(seconds: float) -> duration_pb2.Duration:
    """``seconds`` as a Duration, to the nanosecond."""
    whole = int(seconds)
    return duration_pb2.Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))
