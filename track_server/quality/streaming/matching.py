"""The `filter` of a choice, which may take no more than its share of the processor."""

import time
from collections.abc import Callable
from typing import Final

from track.v1.quality_pb2 import TrackQualityReport
from track_server.cel import compile_filter
from track_server.errors import InvalidExpression

SHARE: Final = 0.1
"""Of the processor, over time. 1,000 reports of 1 kB a second take a sixth of it."""

AT_ONCE_S: Final = 0.25
"""Of its time, in seconds, that may be taken at once: as for filters of other calls. Everybody waits meanwhile."""


class Matching:
    """A filter over `report`, with what it may still take. ``clock``: monotonic seconds, by which its share comes back;
    ``used``: seconds of the processor that the running thread has taken."""

    def __init__(self, source: str, clock: Callable[[], float], used: Callable[[], float] = time.thread_time) -> None:
        """Raises InvalidExpression with the position where it does not compile, is no bool, or may take too long."""
        self._holds = compile_filter(source, "report")
        self._clock = clock
        self._used = used
        self._left_s = AT_ONCE_S
        self._looked_s = clock()

    def holds(self, report: TrackQualityReport) -> bool:
        """Whether it matches; false where the evaluation fails. Raises InvalidExpression beyond the share."""
        if self._holds is None:
            return True
        now_s = self._clock()
        self._left_s = min(AT_ONCE_S, self._left_s + SHARE * max(0.0, now_s - self._looked_s))
        self._looked_s = now_s
        begun_s = self._used()
        found = self._holds(report)
        self._left_s -= self._used() - begun_s
        if self._left_s < 0:
            raise InvalidExpression("the filter takes too long", field="filter")
        return found
