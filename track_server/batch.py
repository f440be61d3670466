"""Batches: every item is answered for itself; a batch of which nothing succeeded fails as a whole."""

from collections.abc import Sequence
from typing import Protocol

from track.v1 import error_pb2
from track_server.errors import ProblemError


class Result(Protocol):
    """The result of one item."""

    @property
    def problem(self) -> error_pb2.Problem:
        """Why it failed."""
        ...

    def HasField(self, field_name: str, /) -> bool:  # noqa: N802 - protobuf's name
        """Whether the optional field is there."""
        ...


def fail_if_all_failed(results: Sequence[Result]) -> None:
    """Raises the first item's problem where no item succeeded."""
    if results and all(result.HasField("problem") for result in results):
        raise ProblemError(results[0].problem)
