"""Errors that came as the contract's Problem."""

from track.v1 import error_pb2
from track.v1.error_pb2 import ErrorReason
from track_server.durations import seconds_of
from track_server.errors.base import TrackError
from track_server.errors.limits import LimitExceeded


class ProblemError(TrackError):
    """A Problem that was received or stored, raised as the failure of a call."""

    def __init__(self, problem: error_pb2.Problem) -> None:
        retry = seconds_of(problem.retry_delay) if problem.HasField("retry_delay") else None
        super().__init__(problem.message, field=problem.field, retry_delay_s=retry, metadata=problem.metadata)
        self.code = problem.code
        self.reason = problem.reason


def error_in(problem: error_pb2.Problem) -> TrackError:
    """The error that a Problem tells of, to be raised as the failure of a call."""
    facts = problem.metadata
    if problem.reason == ErrorReason.ERROR_REASON_LIMIT_EXCEEDED and {"limit", "value", "subject"} <= facts.keys():
        retry = seconds_of(problem.retry_delay) if problem.HasField("retry_delay") else None
        used = float(facts["used"]) if "used" in facts else None
        return LimitExceeded(
            facts["limit"],
            float(facts["value"]),
            facts["subject"],
            field=problem.field,
            used=used,
            retry_delay_s=retry,
        )
    return ProblemError(problem)
