"""The reports of a room's tracks at one moment, made once for all choices that want the same windows."""

from collections.abc import Callable
from typing import Final

from track.v1.quality_alert_pb2 import QUALITY_HOP_UPLINK, QualityAlert
from track.v1.quality_pb2 import QUALITY_LEVEL_UNSPECIFIED, QUALITY_SOURCE_SFU_SCORE, TrackQualityReport
from track.v1.track_pb2 import Track

Make = Callable[[Track], TrackQualityReport]
"""Makes the report of a track, as known now."""


class Entry:
    """One report, which nobody changes any more."""

    __slots__ = ("_encoded", "report", "standing", "track")

    def __init__(self, track: Track, report: TrackQualityReport) -> None:
        self.track: Final = track
        self.report: Final = report
        self.standing: Final = standing(report)
        self._encoded = b""

    @property
    def encoded(self) -> bytes:
        """It, serialised: once."""
        if not self._encoded:
            self._encoded = self.report.SerializeToString()
        return self._encoded

    def with_ends(self, ended: list[QualityAlert]) -> TrackQualityReport:
        """The report with the alerts that ended too: by start, one that is told as on as well only as ended."""
        over = {alert.alert_id for alert in ended}
        alerts = [alert for alert in self.report.alerts if alert.alert_id not in over] + ended
        alerts.sort(key=lambda alert: (alert.start_time.seconds, alert.start_time.nanos))
        report = TrackQualityReport()
        report.CopyFrom(self.report)
        del report.alerts[:]
        report.alerts.extend(alerts)
        return report


class Sheet:
    """Reports made as they are asked for. ``made_s``: when it was begun, monotonic."""

    def __init__(self, made_s: float, make: Make) -> None:
        self.made_s: Final = made_s
        self._make = make
        self._entries: dict[str, Entry] = {}

    def entry(self, track: Track) -> Entry:
        """That of a track of the room as it is now."""
        found = self._entries.get(track.sid)
        if found is None or found.track is not track:
            found = self._entries[track.sid] = Entry(track, self._make(track))
        return found


def standing(report: TrackQualityReport) -> int:
    """A number that differs where `only_changes` counts a change: see the contract. Of one process alone."""
    hops: dict[tuple[int, str], tuple[float, ...]] = {}
    rated = False
    for measurement in report.measurements:
        hop = (measurement.hop, measurement.participant_identity)
        # The first is that of the shortest window.
        if hop not in hops:
            hops[hop] = (
                measurement.level,
                measurement.width.value,
                measurement.height.value,
                measurement.limitation,
            )
            rated = rated or (measurement.hop == QUALITY_HOP_UPLINK and measurement.level != QUALITY_LEVEL_UNSPECIFIED)
    # LiveKit's own level flutters: it counts where there is no better.
    samples = frozenset(
        (sample.source, 0 if rated else sample.connection_quality)
        for sample in report.samples
        if not (rated and sample.source == QUALITY_SOURCE_SFU_SCORE)
    )
    alerts = frozenset((alert.alert_id, alert.fault) for alert in report.alerts)
    return hash((report.muted, frozenset(hops.items()), samples, alerts))
