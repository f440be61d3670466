"""Every error of this service.

    TrackError
    |- InvalidArgument       InvalidField, InvalidExpression, InvalidPageToken, InvalidCursor, RequestIdReused,
    |                        InvalidOptions, MediaInvalid, MediaNotAllowed, InvalidConsistencyToken
    |- NotFound              RoomNotFound, ParticipantNotFound, TrackNotFound, PublicationNotFound, MediaNotFound
    |- FailedPrecondition    TargetPermission, RemoteUnmuteDisabled, NotForDataTracks,
    |                        LiveKitCredentials, PublicationEnded, PublishFailed, CompanionMissing, ConsentRefused,
    |                        CompanionFailed, IngressUnavailable, RestartInProgress, PushInProgress, NotSupported
    |- Unavailable           LiveKitUnavailable, WorkerUnavailable, Draining, PermissionServiceUnavailable,
    |                        ConsistencyNotReached, ConnectionTooOld, StoreUnavailable
    `- LimitExceeded, IdentityInUse, SourceInUse, Unauthenticated, PermissionDenied, DeadlineTooShort, LiveKitError,
                             Internal

The class is the table: it gives the gRPC status code and the reason. The message of an error is public; what must not
leave the service is its ``__cause__``, which is logged and never sent.
"""

from track_server.errors.base import TrackError
from track_server.errors.caller import PermissionDenied, Unauthenticated
from track_server.errors.faults import Internal, LiveKitError
from track_server.errors.limits import DeadlineTooShort, LimitExceeded
from track_server.errors.presence import (
    IdentityInUse,
    MediaNotFound,
    NotFound,
    ParticipantNotFound,
    PublicationNotFound,
    RoomNotFound,
    SourceInUse,
    TrackNotFound,
)
from track_server.errors.problems import ProblemError, error_in
from track_server.errors.request import (
    InvalidArgument,
    InvalidConsistencyToken,
    InvalidCursor,
    InvalidExpression,
    InvalidField,
    InvalidOptions,
    InvalidPageToken,
    MediaInvalid,
    MediaNotAllowed,
    RequestIdReused,
)
from track_server.errors.state import (
    CompanionFailed,
    CompanionMissing,
    ConsentRefused,
    FailedPrecondition,
    IngressUnavailable,
    LiveKitCredentials,
    NotForDataTracks,
    NotSupported,
    PublicationEnded,
    PublishFailed,
    PushInProgress,
    RemoteUnmuteDisabled,
    RestartInProgress,
    TargetPermission,
)
from track_server.errors.unavailable import (
    ConnectionTooOld,
    ConsistencyNotReached,
    Draining,
    LiveKitUnavailable,
    PermissionsChanging,
    PermissionServiceUnavailable,
    StoreUnavailable,
    Unavailable,
    WorkerUnavailable,
)

__all__ = [
    "CompanionFailed",
    "CompanionMissing",
    "ConnectionTooOld",
    "ConsentRefused",
    "ConsistencyNotReached",
    "DeadlineTooShort",
    "Draining",
    "FailedPrecondition",
    "IdentityInUse",
    "IngressUnavailable",
    "Internal",
    "InvalidArgument",
    "InvalidConsistencyToken",
    "InvalidCursor",
    "InvalidExpression",
    "InvalidField",
    "InvalidOptions",
    "InvalidPageToken",
    "LimitExceeded",
    "LiveKitCredentials",
    "LiveKitError",
    "LiveKitUnavailable",
    "MediaInvalid",
    "MediaNotAllowed",
    "MediaNotFound",
    "NotForDataTracks",
    "NotFound",
    "NotSupported",
    "ParticipantNotFound",
    "PermissionDenied",
    "PermissionServiceUnavailable",
    "PermissionsChanging",
    "ProblemError",
    "PublicationEnded",
    "PublicationNotFound",
    "PublishFailed",
    "PushInProgress",
    "RemoteUnmuteDisabled",
    "RequestIdReused",
    "RestartInProgress",
    "RoomNotFound",
    "SourceInUse",
    "StoreUnavailable",
    "TargetPermission",
    "TrackError",
    "TrackNotFound",
    "Unauthenticated",
    "Unavailable",
    "WorkerUnavailable",
    "error_in",
]
