"""What may work later."""

from collections.abc import Mapping

from google.rpc import code_pb2

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


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


class WebhookNotTaken(Unavailable):
    """The receiver of a webhook did not take it; metadata `cause`, and `status` where it answered."""

    reason = ErrorReason.ERROR_REASON_WEBHOOK_NOT_TAKEN
