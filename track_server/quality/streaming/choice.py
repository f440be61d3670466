"""What a reader of the quality stream asked for. Readers of the same choice get the same bytes."""

from dataclasses import dataclass
from typing import Final, Self

from track.v1.quality_pb2 import StreamQualityReportsRequest
from track_server.durations import seconds_of
from track_server.quality.live.reports import Selection

DEFAULT_INTERVAL_S: Final = 5.0
"""Between two reports where nobody says, in seconds."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``interval_s``: seconds between two messages, which samples cover. ``windows``: of the measurements, in seconds,
    shortest first. ``filter``: a CEL expression over `report`; empty for all."""

    selection: Selection
    interval_s: float = DEFAULT_INTERVAL_S
    windows: tuple[float, ...] = (DEFAULT_INTERVAL_S,)
    filter: str = ""
    only_changes: bool = False

    @classmethod
    def of(cls, request: StreamQualityReportsRequest) -> Self:
        """The choice that a valid request makes."""
        interval_s = seconds_of(request.interval) if request.HasField("interval") else DEFAULT_INTERVAL_S
        return cls(
            Selection(request.participant_identity, frozenset(request.track_sids)),
            interval_s,
            tuple(sorted({seconds_of(window) for window in request.windows})) or (interval_s,),
            request.filter.strip(),
            request.only_changes,
        )
