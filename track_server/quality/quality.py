"""The quality of a room's tracks: takes what hosted sessions measure, and reports it beside LiveKit's score."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection
from typing import Final

from google.protobuf import timestamp_pb2

from track.media.v1.media_service_pb2 import SessionStats
from track.v1.quality_pb2 import GetQualityReportResponse, StreamQualityReportsResponse, TrackQualityReport
from track.v1.track_pb2 import FRESHNESS_SOURCE_WATCHED, TRACK_TYPE_DATA, Track
from track_server.lifetime import Closing
from track_server.pulse import Pulse
from track_server.quality.broadcast import Broadcast
from track_server.quality.clock import Clock, Moment, SystemClock
from track_server.quality.counters import HISTORY_S, History
from track_server.quality.demand import LONGEST_S, Demand, Observer
from track_server.quality.reports import Selection, find_track, track_report, track_reports
from track_server.quality.room import Room

REPORT_WINDOW_S: Final = 5.0
"""What GetQualityReport's rates and percentages cover, in seconds: the stream's default."""

FIRST_WAIT_S: Final = 3.0
"""GetQualityReport waits at most so long, in seconds, for a first measurement: two statistics, a second apart."""

_RECENT_S: Final = LONGEST_S + 1
"""A measurement so old, in seconds, still counts as now: the longest interval, and a second for the way."""

LINGER_S: Final = 15.0
"""Statistics go on for so long, in seconds, after GetQualityReport, so that who asks again need not wait again."""


class Quality(Closing):
    """Owner of the histories of hosted publications and of the report streams; `async with`.

    ``observer`` is called with a room's name and its new interval whenever ``stats_interval`` of it changes.
    """

    def __init__(self, observer: Observer, *, clock: Clock | None = None, linger_s: float = LINGER_S) -> None:
        self._clock: Clock = clock or SystemClock()
        self._linger_s = linger_s
        self._demand = Demand(observer)
        self._broadcast = Broadcast(self._build, self._demand, self._clock)
        self._histories: OrderedDict[str, History] = OrderedDict()
        """By publication id, the one that was heard of last at the end."""
        self._recorded = Pulse()

    async def aclose(self) -> None:
        """Ends all streams with Draining. May be called twice."""
        await self._broadcast.aclose()
        self._demand.close()

    def record(self, stats: SessionStats) -> None:
        """Takes the statistics that a hosted session reports. The message is kept: do not change it afterwards."""
        arrival_s = self._clock.now().monotonic_s
        for track in stats.tracks:
            history = self._histories.get(track.publication_id)
            if history is None:
                history = self._histories[track.publication_id] = History()
            history.add(track, arrival_s)
            self._histories.move_to_end(track.publication_id)
        while self._histories and arrival_s - next(iter(self._histories.values())).arrival_s > HISTORY_S:
            self._histories.popitem(last=False)
        self._recorded.beat()

    def interrupt(self, publication_id: str) -> None:
        """Ends the window of a publication: it was muted or unmuted, so that numbers before and after do not mix."""
        history = self._histories.get(publication_id)
        if history is not None:
            history.interrupt()

    def forget(self, publication_id: str) -> None:
        """The publication ended."""
        self._histories.pop(publication_id, None)

    def stats_interval(self, room: str) -> float | None:
        """How often hosted sessions of ``room`` should report statistics, in seconds (1 to 5); None: not at all."""
        return self._demand.interval(room)

    def wanted(self, room: str, interval_s: float) -> contextlib.AbstractContextManager[None]:
        """For the span of the block statistics of ``room`` come each ``interval_s``; for who takes ``sample``s."""
        return self._demand.hold(room, interval_s)

    def sample(self, room: Room, track_sids: Collection[str], window_s: float) -> list[TrackQualityReport]:
        """The quality of those of the tracks that are in the room, over the last ``window_s``, as known now."""
        tracks = [room.model.tracks[sid] for sid in track_sids if sid in room.model.tracks]
        return track_reports(tracks, room.model.qualities, self._histories, self._clock.now(), window_s)

    def stream(self, room: Room, selection: Selection, interval_s: float) -> AsyncGenerator[bytes]:
        """Serialised StreamQualityReportsResponses: one at once, then one each ``interval_s``, until the room closes.

        The caller keeps the room watched meanwhile, and closes the iterator. Raises ParticipantNotFound,
        TrackNotFound at once; Draining later.
        """
        selection.require(room.model)
        return self._broadcast.stream(room, selection, interval_s)

    async def report(self, room: Room, track_sid: str, *, wait_s: float = FIRST_WAIT_S) -> GetQualityReportResponse:
        """The quality of one track, now.

        Where nothing was measured yet, it waits up to ``wait_s`` (at most FIRST_WAIT_S) for it. Raises TrackNotFound.
        """
        track = find_track(room.model, track_sid, "track_sid")
        wait_s = min(wait_s, FIRST_WAIT_S)
        if track.publication_id:
            self._demand.linger(room.name, self._linger_s)
            if not track.muted:
                await self._measured(track, wait_s)
        elif track.type != TRACK_TYPE_DATA and room.freshness().source == FRESHNESS_SOURCE_WATCHED:
            await room.until(
                lambda: track.participant_identity in room.model.qualities or track_sid not in room.model.tracks, wait_s
            )
        track = find_track(room.model, track_sid, "track_sid")
        now = self._clock.now()
        report = track_report(
            track,
            room.model.qualities.get(track.participant_identity),
            self._histories.get(track.publication_id),
            now,
            REPORT_WINDOW_S,
        )
        return GetQualityReportResponse(time=_stamp(now), report=report, freshness=room.freshness())

    async def _measured(self, track: Track, wait_s: float) -> None:
        """Returns once there is a recent window of the hosted track, or after ``wait_s``."""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    history = self._histories.get(track.publication_id)
                    if (
                        history is not None
                        and history.track_sid == track.sid
                        and history.measured(self._clock.now().monotonic_s, _RECENT_S)
                    ):
                        return
                    await self._recorded.wait()
        except TimeoutError:
            return

    def _build(self, room: Room, selection: Selection, interval_s: float) -> bytes:
        now = self._clock.now()
        model = room.model
        reports = track_reports(
            filter(selection.holds, model.tracks.values()), model.qualities, self._histories, now, interval_s
        )
        response = StreamQualityReportsResponse(time=_stamp(now), reports=reports, freshness=room.freshness())
        return response.SerializeToString()


def _stamp(now: Moment) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(round(now.time_s * 1e9))
    return stamp
