"""The base of all errors that a caller may see."""

from collections.abc import Mapping

from google.protobuf.message import Message
from google.rpc import code_pb2

from track.v1 import error_pb2
from track.v1.error_pb2 import ErrorReason
from track_server.durations import duration_of


class TrackError(Exception):
    """Base of all errors that a caller may see.

    ``message``: one public sentence. ``field``: the request field at fault, or "". ``retry_delay_s``: when to try
    again, in seconds, or None where trying again does not help. ``metadata``: further facts for ErrorInfo. ``detail``:
    a message that goes out with the status besides, or None.
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
        self.detail: Message | None = None

    def problem(self, field: str = "") -> error_pb2.Problem:
        """The error as the contract's Problem; ``field`` overrides the error's own."""
        problem = error_pb2.Problem(
            code=self.code,
            reason=self.reason,
            message=self.message,
            field=field or self.field,
            metadata=self.metadata,
        )
        if self.retry_delay_s is not None:
            problem.retry_delay.CopyFrom(duration_of(self.retry_delay_s))
        return problem
