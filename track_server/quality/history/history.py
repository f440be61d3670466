"""The history of quality: a point for each track and hop that is measured, every 5 s and every 60 s."""

from dataclasses import dataclass, fields
from typing import Final

from track.v1.quality_pb2 import QualityPoint
from track_server.durations import timestamp_at
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed
from track_server.quality.core.measuring.reading import Flow
from track_server.quality.core.measuring.sample import Number, Sample, Share
from track_server.quality.history.archive import WINDOWS, PointArchive
from track_server.quality.live.roomassessment import RoomAssessment

_EARLY_S: Final = 0.5
"""A tick that comes so much early, in seconds, is the one that was due."""

_MEASURED: Final = tuple(field.name for field in fields(Sample) if field.name != "sfu_score")


@dataclass(slots=True)
class _Beat:
    """When the points of a room were made last, in monotonic seconds, by span."""

    room: RoomAssessment
    made_s: dict[int, float]


class History:
    """Makes the points. ``assessed`` and ``closed`` listen to Assessing."""

    def __init__(self, archive: PointArchive) -> None:
        self._archive = archive
        self._beats: dict[str, _Beat] = {}

    def assessed(self, room: RoomAssessment, assessed: Assessed, moment: Moment) -> None:
        """One tick."""
        beat = self._beats.get(room.name)
        if beat is None or beat.room is not room:
            # The first point is of a whole span.
            beat = self._beats[room.name] = _Beat(room, dict.fromkeys(WINDOWS, moment.monotonic_s))
        for window_s in WINDOWS:
            if moment.monotonic_s - beat.made_s[window_s] >= window_s - _EARLY_S:
                beat.made_s[window_s] = moment.monotonic_s
                self._make(room, assessed, window_s, moment)

    def closed(self, room: RoomAssessment) -> None:
        """The assessment ends."""
        beat = self._beats.get(room.name)
        if beat is not None and beat.room is room:
            del self._beats[room.name]

    def _make(self, room: RoomAssessment, assessed: Assessed, window_s: int, moment: Moment) -> None:
        time = timestamp_at(moment.time_s)
        points = []
        for flow in sorted(assessed.seen, key=_order):
            sample = assessed.seen[flow].sample
            if sample is None or not _measured(sample, window_s):
                continue
            measurement = room.measurement(flow, window_s, moment, layers=False)
            watch = room.assessment.watches.get(flow)
            if measurement is None or watch is None:
                continue
            point = QualityPoint(
                time=time, track_sid=flow.track_sid, publisher_identity=watch.subject.publisher, measurement=measurement
            )
            points.append(point)
        self._archive.add(room.name, window_s, points)


def _order(flow: Flow) -> tuple[str, int, str]:
    return flow.track_sid, flow.hop, flow.identity


def _measured(sample: Sample, within_s: float) -> bool:
    """Whether somebody measured anything of it of late; LiveKit's score is of a participant, and of any age."""
    values = (getattr(sample, name) for name in _MEASURED)
    return any(isinstance(value, Number | Share) and value.age_s <= within_s for value in values)
