"""Who the caller is, and what it may not do."""

from collections.abc import Mapping

from google.rpc import code_pb2

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


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
