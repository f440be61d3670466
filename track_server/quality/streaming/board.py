"""What was told of a choice's tracks, tick by tick, and what there is to tell to who knows an older tick. Pure.

Readers hold nothing but a tick's number, their position. Of each track the board knows when it last changed; of those
that went, and of alerts that ended, it keeps a log. So who is slow gets the newest of each track in the place of what
it missed, and every end.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from track.v1.quality_alert_pb2 import QualityAlert
from track_server.quality.streaming.sheet import Entry

KEPT_S: Final = 300.0
"""So long, in seconds, it is kept what went and what ended, and a board that nobody reads: cursors are good for it."""

BEGIN: Final = 0
"""The position of who was told nothing yet. Ticks count from 1."""


@dataclass(slots=True)
class _Mark:
    """A track that was told. ``came``, ``changed``: ticks."""

    came: int
    changed: int
    standing: int


@dataclass(frozen=True, slots=True)
class _Gone:
    tick: int
    came: int
    sid: str
    at_s: float


@dataclass(frozen=True, slots=True)
class _End:
    tick: int
    alert: QualityAlert
    at_s: float


T = TypeVar("T", _Gone, _End)


@dataclass(frozen=True, slots=True)
class News:
    """What there is to tell. ``reports``: with the alerts of each that ended, by participant and SID."""

    reports: Sequence[tuple[Entry, list[QualityAlert]]]
    gone: Sequence[str]
    ended: Sequence[QualityAlert]

    def __bool__(self) -> bool:
        return bool(self.reports or self.gone or self.ended)


class Board:
    """``only_changes``: reports are told when they changed, and tracks that match no longer are gone."""

    def __init__(self, *, only_changes: bool) -> None:
        self.tick = BEGIN
        """The newest."""
        self._only_changes = only_changes
        self._entries: Mapping[str, Entry] = {}
        self._marks: dict[str, _Mark] = {}
        self._gone: deque[_Gone] = deque()
        self._ends: deque[_End] = deque()
        self._on: dict[str, str] = {}
        """The alerts that were told as on, by id: their track."""
        self._over: frozenset[str] = frozenset()
        """Those that had ended at the last tick already."""
        self._logged = BEGIN
        """When something went or ended last."""
        self._reach = BEGIN
        """Something that later ticks are not enough for was dropped up to here."""

    def fresh(self, ended: Collection[QualityAlert]) -> dict[str, list[QualityAlert]]:
        """Those of the alerts that ended which the next tick is to tell of, by track. Before the first tick, none."""
        found: dict[str, list[QualityAlert]] = {}
        if self.tick != BEGIN:
            for alert in ended:
                if alert.alert_id not in self._over:
                    found.setdefault(alert.track_sid, []).append(alert)
        return found

    def look(
        self, entries: Sequence[Entry], present: Collection[str], ended: Collection[QualityAlert], now_s: float
    ) -> None:
        """One tick. ``entries``: those that match, in order; ``present``: SIDs of all chosen tracks of the room;
        ``ended``: alerts of the room that ended in the last minutes."""
        fresh = self.fresh(ended)
        self.tick += 1
        self._entries = {entry.report.track_sid: entry for entry in entries}
        staying = self._entries if self._only_changes else present
        for sid in [sid for sid in self._marks if sid not in staying and sid not in self._entries]:
            self._gone.append(_Gone(self.tick, self._marks.pop(sid).came, sid, now_s))
            self._logged = self.tick
        for sid, entry in self._entries.items():
            mark = self._marks.get(sid)
            if mark is None:
                self._marks[sid] = _Mark(self.tick, self.tick, entry.standing)
            elif mark.standing != entry.standing or sid in fresh:
                mark.changed, mark.standing = self.tick, entry.standing
        self._end(fresh, now_s)
        self._over = frozenset(alert.alert_id for alert in ended)
        self._forget(now_s)

    def since(self, position: int) -> News:
        """What there is to tell to who was told all until that tick. Ask `reaches` before."""
        if position == BEGIN:
            return News([(entry, []) for entry in self._entries.values()], (), ())
        ends: dict[str, list[QualityAlert]] = {}
        for end in _after(self._ends, position):
            ends.setdefault(end.alert.track_sid, []).append(end.alert)
        reports = [
            (entry, ends.pop(sid, []))
            for sid, entry in self._entries.items()
            if not self._only_changes or self._marks[sid].changed > position
        ]
        gone = {each.sid for each in _after(self._gone, position) if each.came <= position}
        return News(reports, sorted(gone - self._marks.keys()), [alert for alerts in ends.values() for alert in alerts])

    def all_since(self, position: int) -> bool:
        """Whether there is the same to tell as to who was told nothing yet: all reports, and nothing that went or
        ended."""
        return not self._only_changes and position >= self._logged

    def reaches(self, position: int) -> bool:
        """Whether it can still be told what happened since."""
        return self._reach <= position <= self.tick and position != BEGIN

    def rest(self) -> None:
        """Nobody reads it for now: keeps no reports."""
        self._entries = {}

    def _end(self, fresh: Mapping[str, Sequence[QualityAlert]], now_s: float) -> None:
        """Notes the ends of those alerts that were told of, or whose track is told."""
        for sid, alerts in fresh.items():
            for alert in alerts:
                if sid in self._entries or alert.alert_id in self._on:
                    self._ends.append(_End(self.tick, alert, now_s))
                    self._logged = self.tick
        ended = {alert.alert_id for alerts in fresh.values() for alert in alerts}
        told = {alert.alert_id: sid for sid, entry in self._entries.items() for alert in entry.report.alerts}
        hidden = {alert_id: sid for alert_id, sid in self._on.items() if sid not in self._entries}
        self._on = {alert_id: sid for alert_id, sid in (hidden | told).items() if alert_id not in ended}

    def _forget(self, now_s: float) -> None:
        for log in (self._gone, self._ends):
            while log and now_s - log[0].at_s > KEPT_S:
                self._reach = max(self._reach, log.popleft().tick)
        lately = {each.sid for each in self._gone}
        for alert_id, sid in list(self._on.items()):
            if sid not in self._marks and sid not in lately:
                del self._on[alert_id]


def _after(log: Iterable[T], position: int) -> Iterator[T]:
    return (each for each in log if each.tick > position)
