"""What is wrong with a request itself."""

from google.rpc import code_pb2

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


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


class SchemaViolation(InvalidArgument):
    """Metadata does not satisfy a schema; metadata `schema`, `path` and `keyword` tell where."""

    reason = ErrorReason.ERROR_REASON_SCHEMA_VIOLATION


class InvalidSchema(InvalidArgument):
    """No valid JSON Schema, or not one that can be checked safely; metadata `path` tells where."""

    reason = ErrorReason.ERROR_REASON_INVALID_SCHEMA


class DestinationNotAllowed(InvalidArgument):
    """The operator's allow-list does not name the place."""

    reason = ErrorReason.ERROR_REASON_DESTINATION_NOT_ALLOWED


class StatsRefused(InvalidArgument):
    """A statistic cannot be true, or is not for that participant to tell."""

    reason = ErrorReason.ERROR_REASON_STATS_REFUSED
