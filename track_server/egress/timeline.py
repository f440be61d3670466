"""The quality of what is recorded while it is recorded: sampled, thinned out, kept in the store."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from track.v1.egress_pb2 import EgressPart, GetTrackEgressResponse, TimelineSample, TrackEgress
from track.v1.quality_pb2 import TrackQualityReport
from track_server.durations import seconds_of
from track_server.egress import beside
from track_server.egress.book import KEPT_S, EgressBook
from track_server.egress.course import ended, part_ended, running
from track_server.rooms.room import LiveRoom
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

MAX_SAMPLES: Final = 3600
"""Samples of a recording; from there on every second one goes, and they come half as often."""
FIRST_INTERVAL_S: Final = 2.0
"""Between two samples at first, in seconds."""

_KIND: Final = "egress_timeline"
# Samples of one record of the store, and after how many new ones the latest record is written again.
_CHUNK: Final = 120
_FLUSH: Final = 10

Measure = Callable[[LiveRoom, Collection[str], float], list[TrackQualityReport]]
"""The quality of those tracks of a room over the last so many seconds."""
Following = Callable[[str], contextlib.AbstractContextManager[None]]
"""Has a room measured for the span of a block."""


class Timeline:
    """The samples of one recording, oldest first. ``samples``: those that are there already."""

    def __init__(self, samples: Collection[TimelineSample] = ()) -> None:
        self.samples = list(samples)
        self.interval_s = _interval(self.samples)
        self.dirty_from = 0
        """Number of the first sample that is not stored as it is."""

    def add(self, reports: Collection[TrackQualityReport], now: Timestamp) -> None:
        """Takes what was measured at one moment."""
        self.samples.extend(TimelineSample(report=report, time=now) for report in reports)
        if len(self.samples) > MAX_SAMPLES:
            self._thin()

    def _thin(self) -> None:
        moments: list[list[TimelineSample]] = []
        for sample in self.samples:
            if moments and moments[-1][0].time == sample.time:
                moments[-1].append(sample)
            else:
                moments.append([sample])
        self.samples = [sample for moment in moments[::2] for sample in moment]
        self.interval_s *= 2
        self.dirty_from = 0


def _interval(samples: Collection[TimelineSample]) -> float:
    """That of samples which an earlier run took: the first one, doubled as often as they were thinned out. Pure."""
    times = sorted({seconds_of(sample.time) for sample in samples})
    gaps = [later - earlier for earlier, later in pairwise(times)]
    doubled = round(math.log2(max(min(gaps), FIRST_INTERVAL_S) / FIRST_INTERVAL_S)) if gaps else 0
    return float(FIRST_INTERVAL_S * 2**doubled)


class Timelines:
    """The timelines of all recordings. ``directory``: where this server finds what Egress records to its disk."""

    def __init__(
        self, store: Store, book: EgressBook, measure: Measure, following: Following, directory: Path | None
    ) -> None:
        self._store = store
        self._book = book
        self._measure = measure
        self._following = following
        self._directory = directory
        self._open: dict[str, Timeline] = {}
        self._unreachable: set[tuple[str, str]] = set()
        """Files beside which nothing can be written."""

    async def of(self, egress: TrackEgress) -> list[TimelineSample]:
        """The samples of a recording, oldest first. Raises StoreError."""
        timeline = self._open.get(egress.egress_id)
        return timeline.samples if timeline is not None else await self._read(egress)

    async def sample(self, egress_id: str, live: LiveRoom) -> None:
        """Samples while it records. Ends with the task."""
        timeline = await self._opened(egress_id)
        with self._following(live.name):
            while True:
                await asyncio.sleep(timeline.interval_s)
                egress = self._book.get(egress_id)
                part = running(egress) if egress is not None else None
                if egress is None or part is None or part.livekit_status != "EGRESS_ACTIVE" or not live.current:
                    continue
                sids = [sid for sid in (part.track_sid, part.audio_track_sid) if sid]
                timeline.add(self._measure(live, sids, timeline.interval_s), _now())
                if len(timeline.samples) - timeline.dirty_from >= _FLUSH or timeline.dirty_from == 0:
                    await self._keep(egress, timeline)

    async def close(self, egress_id: str) -> None:
        """No more samples come: what is not stored yet is. Its records go when the recording does."""
        egress, timeline = self._book.get(egress_id), self._open.pop(egress_id, None)
        self._unreachable = {place for place in self._unreachable if place[0] != egress_id}
        if egress is None:
            return
        if timeline is None:
            timeline = await self._opened(egress_id)
            self._open.pop(egress_id, None)
        if ended(egress):
            # Written whole once more, with the time at which they go.
            timeline.dirty_from = 0
        await self._keep(egress, timeline)

    async def _opened(self, egress_id: str) -> Timeline:
        """The timeline with what an earlier run stored, as far as that can be read."""
        found = self._open.get(egress_id)
        if found is not None:
            return found
        egress, samples = self._book.get(egress_id), list[TimelineSample]()
        if egress is not None:
            try:
                samples = await self._read(egress)
            except StoreError as error:
                log.warning("egress_timeline_not_read", egress_id=egress_id, reason=str(error))
        timeline = self._open[egress_id] = Timeline(samples)
        timeline.dirty_from = len(samples)
        return timeline

    async def _keep(self, egress: TrackEgress, timeline: Timeline) -> None:
        try:
            await self._write(egress, timeline)
        except StoreError as error:
            log.warning("egress_timeline_not_stored", egress_id=egress.egress_id, reason=str(error))

    async def written_beside(self, egress: TrackEgress) -> TrackEgress | None:
        """Writes what of it belongs beside files that are done; returns it with their paths, None where none is new."""
        if self._directory is None or egress.output.WhichOneof("output") != "file":
            return None
        if egress.output.file.WhichOneof("storage") is not None:
            return None
        result = TrackEgress()
        result.CopyFrom(egress)
        changed = False
        for part in result.parts:
            for file in part.files if part_ended(part) else ():
                place = (egress.egress_id, file.location or file.filename)
                if file.timeline_path or place in self._unreachable:
                    continue
                file.timeline_path = await self._write_beside(self._directory, place[1], egress, part)
                changed |= bool(file.timeline_path)
                if not file.timeline_path:
                    self._unreachable.add(place)
        return result if changed else None

    async def _write_beside(self, directory: Path, location: str, egress: TrackEgress, part: EgressPart) -> str:
        try:
            body = beside.document(egress, part, await self.of(egress))
            return await asyncio.to_thread(beside.write, directory, location, body)
        except (OSError, ValueError, StoreError) as error:
            log.warning("egress_timeline_not_written", egress_id=egress.egress_id, reason=type(error).__name__)
            return ""

    async def _read(self, egress: TrackEgress) -> list[TimelineSample]:
        samples: list[TimelineSample] = []
        for number in range(MAX_SAMPLES // _CHUNK + 2):
            record = await self._store.get(_KIND, egress.room, _key(egress.egress_id, number))
            if record is None:
                break
            samples.extend(GetTrackEgressResponse.FromString(record.body).timeline)
        return samples

    async def _write(self, egress: TrackEgress, timeline: Timeline) -> None:
        """Stores what is new. Raises StoreError."""
        first, anew = timeline.dirty_from // _CHUNK, timeline.dirty_from == 0
        samples = list(timeline.samples)
        timeline.dirty_from = len(samples)
        expire = seconds_of(egress.end_time) + KEPT_S if ended(egress) else None
        last = math.ceil(len(samples) / _CHUNK)
        for number in range(first, last):
            chunk = GetTrackEgressResponse(timeline=samples[number * _CHUNK : (number + 1) * _CHUNK])
            body = chunk.SerializeToString()
            await self._store.put(_KIND, egress.room, _key(egress.egress_id, number), body, expire_time=expire)
        # What was there before it was thinned out.
        number = last
        while anew and await self._store.delete(_KIND, egress.room, _key(egress.egress_id, number)):
            number += 1


def _key(egress_id: str, number: int) -> str:
    return f"{egress_id}/{number:04d}"


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(time.time_ns())
    return stamp
