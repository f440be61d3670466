"""A room whose quality is what the test says, and readers of its quality that put together what they are told."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tests.quality.rooms import infos, live_room
from tests.quality.samples import ManualClock, settle
from track.v1.quality_alert_pb2 import QUALITY_ALERT_KIND_STALLED, QUALITY_HOP_UPLINK, QualityAlert
from track.v1.quality_pb2 import (
    QualityLevel,
    QualityMeasurement,
    StreamQualityReportsRequest,
    StreamQualityReportsResponse,
    TrackQualityReport,
)
from track.v1.track_pb2 import Track
from track_server.durations import timestamp_at
from track_server.errors import TrackError
from track_server.quality.clock import Clock, Moment
from track_server.quality.live.room import Room
from track_server.quality.streaming.streams import Streams
from track_server.quality.streaming.ticker import Told
from track_server.rooms.room import WATCHED, LiveRoom


class ToldRoom:
    """What is known of a live room, as the test sets it."""

    def __init__(self, clock: Clock, tracks: dict[str, list[str]] | None = None) -> None:
        self.live: LiveRoom = live_room(tracks or {})
        self.tick = 0
        self.clock = clock
        self.levels: dict[str, QualityLevel.ValueType] = {}
        self.bitrates: dict[str, float] = {}
        self.alerts: dict[str, QualityAlert] = {}
        self.over: list[QualityAlert] = []
        self.padding = ""
        self.made = 0
        self.broken = False
        self._numbers = 0

    def has(self, tracks: dict[str, list[str]]) -> None:
        """From now on the room has these: identity to track SIDs."""
        self.live.seen("RM_1", infos(tracks), WATCHED)
        self.tick += 1

    def rate(self, sid: str, level: QualityLevel.ValueType) -> None:
        """From now on the track has that level."""
        self.levels[sid] = level
        self.tick += 1

    def start(self, sid: str) -> str:
        """An alert goes on; gives its id."""
        self._numbers += 1
        alert_id = f"QA_{self._numbers}"
        self.alerts[alert_id] = QualityAlert(
            alert_id=alert_id,
            kind=QUALITY_ALERT_KIND_STALLED,
            track_sid=sid,
            start_time=timestamp_at(self.clock.now().time_s + self._numbers / 1e3),
        )
        self.tick += 1
        return alert_id

    def end(self, alert_id: str) -> None:
        """It goes off."""
        over = QualityAlert()
        over.CopyFrom(self.alerts.pop(alert_id))
        over.end_time.CopyFrom(timestamp_at(self.clock.now().time_s + 1))
        self.over.append(over)
        self.tick += 1

    def report(self, track: Track, windows: Sequence[float], moment: Moment, *, span_s: float) -> TrackQualityReport:
        """See Told."""
        if self.broken:
            raise RuntimeError("no numbers")
        self.made += 1
        report = TrackQualityReport(
            track_sid=track.sid,
            participant_identity=track.participant_identity,
            publication_id=self.padding,
            muted=track.muted,
            alerts=[alert for alert in self.alerts.values() if alert.track_sid == track.sid],
        )
        if level := self.levels.get(track.sid):
            for window_s in windows:
                measurement = QualityMeasurement(
                    hop=QUALITY_HOP_UPLINK, participant_identity=track.participant_identity, level=level
                )
                measurement.window.FromNanoseconds(round(window_s * 1e9))
                measurement.bitrate_bps.value = self.bitrates.get(track.sid, 1e6)
                report.measurements.append(measurement)
        return report

    def ended(self) -> Sequence[QualityAlert]:
        """See Told."""
        return self.over


class Stage:
    """Streams over rooms of the test's."""

    def __init__(self, patience_s: float = 60.0) -> None:
        self.clock = ManualClock()
        self.room = ToldRoom(self.clock, {"alice": ["TR_a1"], "bob": ["TR_v1"]})
        self.rooms: dict[Room, ToldRoom] = {self.room.live: self.room}
        self.followed: list[str] = []
        self.left: list[str] = []
        self.ended: list[TrackError] = []
        self.streams = Streams(self._follow, clock=self.clock, patience_s=patience_s)

    def _follow(self, live: Room) -> tuple[Told, Any]:
        self.followed.append(live.name)
        return self.rooms[live], lambda: self.left.append(live.name)

    def open(self, room: ToldRoom | None = None, **fields: Any) -> "View":
        """Begins to read. ``fields``: of the request; ``interval_s`` and ``windows_s`` in seconds."""
        request = asked(room=(room or self.room).live.name, **fields)
        stream = self.streams.stream((room or self.room).live, request, self.ended.append)
        return View(stream, only_changes=request.only_changes)


def asked(interval_s: float = 1.0, windows_s: Sequence[float] = (), **fields: Any) -> StreamQualityReportsRequest:
    """A request."""
    request = StreamQualityReportsRequest(**fields)
    request.interval.FromNanoseconds(round(interval_s * 1e9))
    for window_s in windows_s:
        request.windows.add().FromNanoseconds(round(window_s * 1e9))
    return request


class View:
    """One reader: what it takes the room for, after all messages that it has taken."""

    def __init__(self, stream: AsyncGenerator[bytes], *, only_changes: bool) -> None:
        self.stream = stream
        self.only_changes = only_changes
        self.reports: dict[str, TrackQualityReport] = {}
        self.over: set[str] = set()
        """Ids of the alerts that it was told had ended."""
        self.cursor = ""
        self.messages: list[StreamQualityReportsResponse] = []
        self._more = False
        self._next: asyncio.Future[bytes] | None = None

    async def take(self) -> StreamQualityReportsResponse:
        """Takes a message, and waits for it."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self.stream))
        try:
            taken = await self._next
        finally:
            self._next = None
        return self.add(StreamQualityReportsResponse.FromString(taken))

    def ask(self) -> asyncio.Future[bytes]:
        """Asks for a message, which `take` gives."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self.stream))
        return self._next

    def add(self, message: StreamQualityReportsResponse) -> StreamQualityReportsResponse:
        """Puts what a message tells together with what was told before."""
        self.messages.append(message)
        if message.resync or (not self.only_changes and not self._more):
            self.reports.clear()
        self._more = message.more
        for report in message.reports:
            self.reports[report.track_sid] = report
            self.over.update(alert.alert_id for alert in report.alerts if alert.HasField("end_time"))
        for sid in message.gone_track_sids:
            self.reports.pop(sid, None)
        self.over.update(alert.alert_id for alert in message.ended_alerts)
        self.cursor = message.cursor
        return message

    async def aclose(self) -> None:
        """Leaves."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self.stream.aclose()


class Stages(Stage):
    """A stage whose readers leave at its end."""

    def __init__(self, patience_s: float = 60.0) -> None:
        super().__init__(patience_s)
        self.views: list[View] = []

    def open(self, room: ToldRoom | None = None, **fields: Any) -> View:
        """See Stage."""
        self.views.append(super().open(room, **fields))
        return self.views[-1]

    async def beat(self, seconds: float, *views: View) -> None:
        """The views ask, the time passes, and they take what there is."""
        for view in views:
            _ = view.ask()
        await settle()
        await self.clock.advance(seconds)
        for view in views:
            if view.ask().done():
                await view.take()


def sids(view: View) -> list[str]:
    """Of which tracks its last message has reports."""
    return [report.track_sid for report in view.messages[-1].reports]


def without_ends(report: TrackQualityReport) -> TrackQualityReport:
    """The report without the alerts that are over."""
    left = TrackQualityReport()
    left.CopyFrom(report)
    del left.alerts[:]
    left.alerts.extend(alert for alert in report.alerts if not alert.HasField("end_time"))
    return left
