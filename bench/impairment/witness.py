"""A reader of what the service tells of one room: reports, events, alerts."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from google.protobuf import duration_pb2

from bench.impairment import told
from bench.impairment.told import Everything, LiveKitLevel, Told
from tests.track_process import Client
from track.v1 import event_pb2, quality_alert_pb2, quality_pb2, quality_recording_pb2

WINDOWS_S: Final = (1, 5, 60)
_END_S: Final = 15.0


class Witness:
    """`begin`s to read, and at its `end` has everything. Reports come each ``every_s`` with those windows; ``record``:
    also what the service was told."""

    def __init__(
        self,
        admin: Client,
        room: str,
        *,
        every_s: int = 1,
        windows_s: Sequence[int] = WINDOWS_S,
        record: bool = True,
    ) -> None:
        self.reports: list[Told] = []
        """So far."""
        self._admin = admin
        self._room = room
        self._events: list[tuple[float, event_pb2.RoomEvent]] = []
        self._lines: list[str] = []
        self._every_s = every_s
        self._windows_s = windows_s
        self._recording = record
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """From now on."""
        reading = [self._read_reports(), self._read_events(), *([self._record()] if self._recording else [])]
        self._tasks = [asyncio.create_task(each) for each in reading]

    def check(self) -> None:
        """Raises what ended a stream, where one ended."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise RuntimeError("a stream of the service ended")

    def measured(self, track_sid: str, hop: int) -> set[str]:
        """At whose end that track was measured on that hop, of late."""
        newest = self.reports[-1].time_s if self.reports else 0.0
        return {
            each.flow.identity
            for each in self.reports
            if each.flow.track_sid == track_sid and each.flow.hop == hop and each.time_s >= newest - 3
        }

    def alerts(self) -> list[told.ToldAlert]:
        """Those that were told so far."""
        return told.alerts(self._events)

    async def end(self, livekit: list[LiveKitLevel]) -> Everything:
        """Everything; ``livekit``: what LiveKit told others."""
        listed = await self._listed()
        await self.aclose()
        return Everything(
            self.reports,
            told.named_anew(told.alerts(self._events), listed),
            [*told.livekit_levels(self._events), *livekit],
            told.level_changes(self._events),
            self._lines,
        )

    async def aclose(self) -> None:
        """Reads no more. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listed(self) -> list[quality_alert_pb2.QualityAlert]:
        found: list[quality_alert_pb2.QualityAlert] = []
        token = ""
        while True:
            request = quality_alert_pb2.ListQualityAlertsRequest(room=self._room, page_size=1000, page_token=token)
            page = await self._admin.ListQualityAlerts(request, timeout=_END_S)
            found += page.alerts
            token = page.next_page_token
            if not token:
                return found

    async def _read_reports(self) -> None:
        request = quality_pb2.StreamQualityReportsRequest(
            room=self._room,
            interval=duration_pb2.Duration(seconds=self._every_s),
            windows=[duration_pb2.Duration(seconds=each) for each in self._windows_s],
        )
        async for response in self._admin.StreamQualityReports(request):
            self.reports += told.measurements(response)

    async def _read_events(self) -> None:
        async for response in self._admin.WatchEvents(event_pb2.WatchEventsRequest(room=self._room)):
            if response.HasField("event"):
                self._events.append((time.time(), response.event))

    async def _record(self) -> None:
        request = quality_recording_pb2.RecordQualitySamplesRequest(room=self._room)
        async for response in self._admin.RecordQualitySamples(request):
            self._lines += response.lines
