"""Reports of companions, as they come, and how many are taken. Pure."""

from typing import Final

from protovalidate import Validator

from track.control.v1.control_pb2 import StateReport
from track_server.allowance import Allowance
from track_server.protojson import ProtoJsonReader

TOPIC: Final = "track.state.v1"
MAX_BYTES: Final = 15 * 1024
"""The longest report that is read."""

# A companion sends at most every 100 ms; a state that is long comes in several at once.
_PER_SECOND: Final = 12.0
_BURST: Final = 60.0
# Reading a kilobyte of JSON takes 0.1 to 0.2 ms.
_BYTES_PER_S: Final = 32 * 1024.0
_BURST_BYTES: Final = 256 * 1024.0


class Reader:
    """Reads reports."""

    def __init__(self) -> None:
        self._reader = ProtoJsonReader(StateReport)
        self._validator = Validator()

    def read(self, payload: bytes) -> StateReport | None:
        """The report; None where it is none, is too long, or says something that is out of its range.

        Fields of a newer companion are left out.
        """
        if len(payload) > MAX_BYTES:
            return None
        try:
            report = self._reader.read(payload)
        except ValueError:
            return None
        return None if self._validator.collect_violations(report, fail_fast=True) else report


class Pace:
    """How much one participant may report."""

    def __init__(self) -> None:
        self._messages = Allowance(_PER_SECOND, _BURST)
        self._bytes = Allowance(_BYTES_PER_S, _BURST_BYTES)

    def allows(self, size: int, now: float) -> bool:
        """Whether a report of ``size`` bytes is taken; ``now``: seconds of a monotonic clock."""
        return self._messages.take(1, now) and self._bytes.take(size, now)
