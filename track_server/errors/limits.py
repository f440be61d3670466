"""What is beyond a limit, of this server or of the caller's time."""

from google.rpc import code_pb2

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


class LimitExceeded(TrackError):
    """A limit of this server is reached.

    ``limit``: its name, that of its setting; ``value``: the limit's value; ``subject``: for whom it is counted, e.g.
    ``room demo``. They go out as QuotaFailure. ``used``: what it would be, where that is known; ``advice``: what to do
    instead. ``retry_delay_s``: given where waiting helps.
    """

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = ErrorReason.ERROR_REASON_LIMIT_EXCEEDED

    def __init__(
        self,
        limit: str,
        value: float,
        subject: str,
        *,
        field: str = "",
        used: float | None = None,
        advice: str = "",
        retry_delay_s: float | None = None,
    ) -> None:
        facts = {"limit": limit, "value": f"{value:.15g}", "subject": subject}
        message = f"beyond the limit of {subject}: {limit} is {value:.15g}"
        if used is not None:
            facts["used"] = f"{used:.15g}"
            message = f"{message}, and this would be {used:.15g}"
        super().__init__(
            f"{message}; {advice}" if advice else message, field=field, retry_delay_s=retry_delay_s, metadata=facts
        )
        self.limit = limit
        self.value = value
        self.subject = subject


class DeadlineTooShort(TrackError):
    """The deadline is too short to begin."""

    code = code_pb2.DEADLINE_EXCEEDED
    reason = ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT


class ReaderTooSlow(TrackError):
    """The stream was not read for too long; metadata `cursor` tells where to resume."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = ErrorReason.ERROR_REASON_READER_TOO_SLOW
