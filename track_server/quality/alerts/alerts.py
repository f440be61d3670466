"""What is wrong with the tracks of live rooms, as those outside hear of it: alerts with ids and times, and events."""

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from track.v1 import event_pb2
from track.v1.quality_alert_pb2 import QualityAlert
from track_server.lifetime import Closing
from track_server.quality.alerts.archive import Archive
from track_server.quality.alerts.book import Book
from track_server.quality.clock import Clock, Moment, SystemClock
from track_server.quality.core.assessment import Assessed
from track_server.quality.live.roomassessment import RoomAssessment

KEPT_S: Final = 300.0
"""So long, in seconds, what ended is told to streams that resume."""

_ID_BYTES: Final = 10

Announce = Callable[[str, event_pb2.RoomEvent], None]
"""Adds an event to the log of the room of that name."""


class Counted(Protocol):
    """What is told of alerts in numbers."""

    def alert_started(self, alert: QualityAlert) -> None:
        """One went on."""

    def alert_ended(self, alert: QualityAlert) -> None:
        """One went off."""


@dataclass(slots=True)
class _Board:
    """The alerts of one life of a room. ``over``: those that ended, with the tick and the monotonic second."""

    book: Book
    over: deque[tuple[int, float, QualityAlert]]


class Alerts(Closing):
    """Owner of the alerts of all rooms that are assessed, `async with`.

    ``assessed`` and ``closed`` listen to Assessing, ``closing`` to Rooms.
    """

    def __init__(self, announce: Announce, archive: Archive, counted: Counted, *, clock: Clock | None = None) -> None:
        self._announce = announce
        self._archive = archive
        self._counted = counted
        self._clock: Clock = clock or SystemClock()
        self._boards: dict[str, tuple[RoomAssessment, _Board]] = {}
        self._left: dict[str, deque[tuple[int, float, QualityAlert]]] = {}
        """Of rooms that nobody follows any more: those that ended lately, at no tick of a later assessment."""
        self._closed = False

    async def aclose(self) -> None:
        """Ends all that are on, unproved. May be called twice."""
        self._closed = True
        for room, _ in list(self._boards.values()):
            self.closed(room)

    def active(self, room: str, track_sid: str = "") -> Sequence[QualityAlert]:
        """Those of the room, or of one track, that are on, oldest first. Never change them."""
        _, board = self._boards.get(room, (None, None))
        if board is None:
            return ()
        return [alert for alert in board.book.on.values() if not track_sid or alert.track_sid == track_sid]

    def ended_since(self, room: str, tick: int, track_sid: str = "") -> Sequence[QualityAlert]:
        """Those that ended after that tick of the room's assessment, in the last 5 minutes, oldest first. ``tick`` -1:
        those of earlier assessments too."""
        _, board = self._boards.get(room, (None, None))
        over = self._left.get(room, ()) if board is None else board.over
        return [alert for at, _, alert in over if at > tick and (not track_sid or alert.track_sid == track_sid)]

    def contribute(self, room: str, snapshot: event_pb2.RoomSnapshot) -> None:
        """Fills in those that are on, oldest first."""
        snapshot.quality_alerts.extend(self.active(room))

    def assessed(self, room: RoomAssessment, assessed: Assessed, moment: Moment) -> None:
        """Listens to Assessing: one tick."""
        if self._closed:
            return
        board = self._board(room)
        self._tell(room, board, board.book.tick(assessed, moment), moment)
        while board.over and moment.monotonic_s - board.over[0][1] > KEPT_S:
            board.over.popleft()

    def closing(self, room: str) -> None:
        """Listens to Rooms: LiveKit closed the room of that name, which nobody was told yet."""
        known, _ = self._boards.get(room, (None, None))
        if known is not None:
            self.closed(known)

    def closed(self, room: RoomAssessment) -> None:
        """Listens to Assessing: nobody follows it any more, or it was closed."""
        known, board = self._boards.get(room.name, (None, None))
        if board is None or known is not room:
            return
        moment = self._clock.now()
        self._tell(room, board, board.book.close(moment), moment)
        del self._boards[room.name]
        self._left[room.name] = deque((0, at_s, alert) for _, at_s, alert in board.over)
        for name, over in list(self._left.items()):
            if not over or moment.monotonic_s - over[-1][1] > KEPT_S:
                del self._left[name]

    def _board(self, room: RoomAssessment) -> _Board:
        known, board = self._boards.get(room.name, (None, None))
        if board is None or known is not room:
            if known is not None:
                self.closed(known)
            board = _Board(Book(room.assessment, _new_id), self._left.pop(room.name, deque()))
            self._boards[room.name] = room, board
        return board

    def _tell(self, room: RoomAssessment, board: _Board, events: Iterable[event_pb2.RoomEvent], moment: Moment) -> None:
        for event in events:
            change = event.WhichOneof("change")
            if change == "quality_alert_started":
                self._archive.keep(room.name, event.quality_alert_started)
                self._counted.alert_started(event.quality_alert_started)
            elif change == "quality_alert_ended":
                board.over.append((room.tick, moment.monotonic_s, event.quality_alert_ended))
                self._archive.keep(room.name, event.quality_alert_ended)
                self._counted.alert_ended(event.quality_alert_ended)
            self._announce(room.name, event)


def _new_id() -> str:
    return f"QA_{secrets.token_hex(_ID_BYTES)}"
