"""Recordings of what assessments are given, for those who ask: lines of a file that can be replayed."""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final, cast

from track.v1.quality_recording_pb2 import RecordQualitySamplesResponse
from track_server.errors import Draining, ReaderTooSlow
from track_server.lifetime import Closing
from track_server.pulse import Pulse
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Reading
from track_server.quality.core.recording import (
    begin_line,
    clock_line,
    end_line,
    expect_line,
    readings_line,
    receives_line,
    tick_line,
)
from track_server.quality.core.watch import Subject
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.rooms import Rooms

_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Of lines that a reader has not fetched."""
_MESSAGE_BYTES: Final = 1024 * 1024


class Recorder(Closing):
    """Answers RecordQualitySamples; owner of the recordings that run, `async with`.

    ``ticked`` and ``told`` listen to Assessing.
    """

    def __init__(self, rooms: Rooms, assessing: Assessing) -> None:
        self._rooms = rooms
        self._assessing = assessing
        self._runs: dict[str, list[_Run]] = {}
        self._told_s = 0.0
        """The time of the line before: a tick is made at one moment, and some things are told a little later."""
        self._closed = False

    async def aclose(self) -> None:
        """Ends all with Draining. May be called twice."""
        self._closed = True
        for run in [run for runs in self._runs.values() for run in runs]:
            run.wake.beat()

    async def record(self, room: str) -> AsyncGenerator[RecordQualitySamplesResponse]:
        """What is watched now, then what is told of it, until the room closes.

        Raises RoomNotFound, LiveKitUnavailable, LiveKitCredentials; ReaderTooSlow, Draining later.
        """
        async with self._rooms.watch(room) as live:
            run = _Run()
            with self._assessing.following(room):
                runs = self._runs.setdefault(room, [])
                runs.append(run)
                self._begin(run, self._assessing.of(room))
                try:
                    yield RecordQualitySamplesResponse(lines=run.take())
                    while not live.closed:
                        if self._closed:
                            raise Draining("the server is shutting down")
                        if run.over:
                            raise ReaderTooSlow("the recording was not read for too long, and ends")
                        lines = run.take()
                        if lines:
                            yield RecordQualitySamplesResponse(lines=lines)
                        else:
                            await run.wake.wait()
                    while lines := run.take():
                        yield RecordQualitySamplesResponse(lines=lines)
                finally:
                    runs.remove(run)
                    if not runs:
                        self._runs.pop(room, None)

    def told(self, room: str, kind: str, flow: Flow, what: object) -> None:
        """An assessment is given something."""
        runs = self._runs.get(room)
        if runs:
            line = _line(self._at(self._assessing.clock.now()), kind, flow, what)
            for run in runs:
                run.add(line)

    def ticked(self, room: RoomAssessment, _assessed: Assessed, moment: Moment) -> None:
        """It looked at all of it."""
        for run in self._runs.get(room.name, ()):
            run.add(tick_line(self._at(moment)))
            run.wake.beat()

    def ended(self, room: RoomAssessment) -> None:
        """The assessment ended, with its room."""
        for run in self._runs.get(room.name, ()):
            run.wake.beat()

    def _at(self, moment: Moment) -> float:
        self._told_s = max(self._told_s, moment.monotonic_s)
        return self._told_s

    def _begin(self, run: "_Run", room: RoomAssessment | None) -> None:
        """Says what is watched, and from when on; a tick first, so that all ticks are those that are told."""
        now = self._assessing.clock.now()
        at_s = self._at(now)
        run.add(clock_line(at_s, now.time_s))
        run.add(tick_line(at_s))
        for flow, watch in room.assessment.watches.items() if room is not None else ():
            run.add(begin_line(at_s, flow, watch.subject))
            run.add(expect_line(at_s, flow, watch.meter.expected))
            if watch.received is not None:
                run.add(receives_line(at_s, flow, watch.received))


class _Run:
    """One recording: the lines that were not fetched yet."""

    def __init__(self) -> None:
        self.wake = Pulse()
        self.over = False
        """More had to be kept than may be."""
        self._lines: deque[str] = deque()
        self._bytes = 0

    def add(self, line: str) -> None:
        if self._bytes > _KEPT_BYTES:
            self.over = True
        if not self.over:
            self._lines.append(line)
            self._bytes += len(line)

    def take(self) -> list[str]:
        """The oldest, as many as go into a message."""
        taken: list[str] = []
        size = 0
        while self._lines and size < _MESSAGE_BYTES:
            line = self._lines.popleft()
            size += len(line)
            taken.append(line)
        self._bytes -= size
        return taken


def _line(at_s: float, kind: str, flow: Flow, what: object) -> str:
    if kind == "begin":
        return begin_line(at_s, flow, cast(Subject, what))
    if kind == "readings":
        return readings_line(at_s, flow, cast(Sequence[Reading], what))
    if kind == "expect":
        return expect_line(at_s, flow, cast(Expected, what))
    if kind == "receives":
        return receives_line(at_s, flow, cast(int | None, what))
    return end_line(at_s, flow)
