"""From what is found at each tick to what is told of it: alerts with ids and times, and levels. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from track.v1.event_pb2 import QualityLevelChanged, RoomEvent
from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_pb2 import QUALITY_LEVEL_UNSPECIFIED
from track_server.quality.alerts.messages import ended, started, told
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Alert, Assessed, Assessment
from track_server.quality.core.detecting.attribution import Fault
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow
from track_server.quality.core.scoring.level import Level
from track_server.quality.messages import HOPS, LEVELS

_Key = tuple[Flow, AlertKind]


class Book:
    """Owner of what was told of one assessment. ``new_id``: gives each alert an id of its own."""

    def __init__(self, assessment: Assessment, new_id: Callable[[], str]) -> None:
        self._assessment: Final = assessment
        self._new_id = new_id
        self._on: dict[_Key, QualityAlert] = {}
        self._levels: dict[Flow, Level] = {}

    @property
    def on(self) -> Mapping[_Key, QualityAlert]:
        """The alerts that are on, oldest first, with the newest evidence and fault. Never change them."""
        return self._on

    def tick(self, assessed: Assessed, moment: Moment) -> list[RoomEvent]:
        """What is to be told of a tick of the assessment, in order."""
        events = [event for alert in assessed.alerts for event in self._changed(alert, moment)]
        # Without a fault its track, or its subscriber, is gone.
        events += [self._end(key, moment) for key in list(self._on) if key not in self._assessment.faults]
        self._refresh(moment)
        return [*events, *self._level(assessed)]

    def close(self, moment: Moment) -> list[RoomEvent]:
        """Ends all that are on, unproved: nobody looks any more."""
        return [self._end(key, moment) for key in list(self._on)]

    def _changed(self, alert: Alert, moment: Moment) -> Iterator[RoomEvent]:
        change, key = alert.change, (alert.flow, alert.change.kind)
        known = self._on.get(key)
        if not change.on:
            if known is not None:
                self._on[key] = told(known, change.kind, alert.fault, change.evidence, moment)
                yield self._end(key, moment, proved=change.proved)
            return
        if known is not None:
            yield self._end(key, moment)
        publisher = self._assessment.watches[alert.flow].subject.publisher
        base = started(self._new_id(), alert.flow, change.kind, publisher, moment)
        self._on[key] = told(base, change.kind, alert.fault, change.evidence, moment)
        yield RoomEvent(quality_alert_started=self._on[key])

    def _end(self, key: _Key, moment: Moment, *, proved: bool = False) -> RoomEvent:
        return RoomEvent(quality_alert_ended=ended(self._on.pop(key), moment, proved=proved))

    def _refresh(self, moment: Moment) -> None:
        """Whose fault it is, and what speaks for it, is told as it is now."""
        for key, alert in self._on.items():
            flow, kind = key
            watch = self._assessment.watches.get(flow)
            evidence = None if watch is None else watch.evidence(kind)
            if evidence is not None:
                self._on[key] = told(alert, kind, self._assessment.faults.get(key, Fault.UNKNOWN), evidence, moment)

    def _level(self, assessed: Assessed) -> Iterator[RoomEvent]:
        """The levels that changed, also of hops that are measured no more; of tracks that are gone none is told."""
        gone = {flow: None for flow in self._levels if flow not in assessed.seen}
        there = {flow.track_sid for flow in self._assessment.watches} if gone or assessed.levels else ()
        for flow, level in {**assessed.levels, **gone}.items():
            before = self._levels.pop(flow, None)
            if level is not None:
                self._levels[flow] = level
            if level is before or flow.track_sid not in there:
                continue
            yield RoomEvent(
                quality_level_changed=QualityLevelChanged(
                    track_sid=flow.track_sid,
                    hop=HOPS[flow.hop],
                    participant_identity=flow.identity,
                    level=QUALITY_LEVEL_UNSPECIFIED if level is None else LEVELS[level],
                    previous_level=QUALITY_LEVEL_UNSPECIFIED if before is None else LEVELS[before],
                )
            )
