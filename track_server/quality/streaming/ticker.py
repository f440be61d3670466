"""The beat of one choice in one room: looks at its tracks, and has the messages for whoever reads it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_pb2 import StreamQualityReportsResponse, TrackQualityReport
from track.v1.track_pb2 import Freshness, Track
from track_server.quality.clock import Clock, Moment
from track_server.quality.live.room import Room
from track_server.quality.messages import stamp_of
from track_server.quality.streaming.board import BEGIN, Board
from track_server.quality.streaming.choice import Choice
from track_server.quality.streaming.cursor import cursor_text, new_life
from track_server.quality.streaming.matching import Matching
from track_server.quality.streaming.parts import ended_piece, gone_piece, put_together, report_piece
from track_server.quality.streaming.sheet import Entry, Sheet

FIRST_REUSE_S: Final = 0.5
"""What was made for somebody else is told where it is no older than this, in seconds."""

_AT_ONCE: Final = 16
"""Reports made in a row, at some 0.1 ms each, until others have their turn."""

_KEPT: Final = 8
"""Messages of a tick that are kept for who comes next: those of most readers, and of some who are late."""


class Told(Protocol):
    """What is known of a live room."""

    @property
    def live(self) -> Room:
        """The room, which is watched."""

    @property
    def tick(self) -> int:
        """Grows when what is wrong with its tracks was looked at."""

    def report(self, track: Track, windows: Sequence[float], moment: Moment, *, span_s: float) -> TrackQualityReport:
        """The report of a track. ``windows``: of measurements, ``span_s``: of samples, in seconds."""

    def ended(self) -> Sequence[QualityAlert]:
        """The alerts that ended in the last 5 minutes."""


class Sheets:
    """Owner of the newest reports of a room, by the windows that they are made for."""

    def __init__(self, told: Told, clock: Clock) -> None:
        self._told = told
        self._clock = clock
        self._sheets: dict[tuple[tuple[float, ...], float], tuple[int, Sheet]] = {}

    def sheet(self, choice: Choice) -> Sheet:
        """One that is new enough."""
        now_s = self._clock.now().monotonic_s
        key = (choice.windows, choice.interval_s)
        tick, sheet = self._sheets.get(key, (-1, None))
        if sheet is None or tick != self._told.tick or now_s - sheet.made_s > FIRST_REUSE_S:
            sheet = Sheet(now_s, lambda track: self._report(track, choice))
            self._sheets = {
                other: kept for other, kept in self._sheets.items() if now_s - kept[1].made_s <= FIRST_REUSE_S
            }
            self._sheets[key] = (self._told.tick, sheet)
        return sheet

    def _report(self, track: Track, choice: Choice) -> TrackQualityReport:
        return self._told.report(track, choice.windows, self._clock.now(), span_s=choice.interval_s)


class Ticker:
    """Owner of its board. ``first`` and ``run`` look at the room; ``messages`` never waits."""

    def __init__(self, told: Told, sheets: Sheets, choice: Choice, matching: Matching, clock: Clock) -> None:
        self.board = Board(only_changes=choice.only_changes)
        self.life = new_life()
        self.choice: Final = choice
        self.live: Final = told.live
        self.readers = 0
        self.beats = 0
        """Turns of its own so far; those that a new reader brings about are none."""
        self.failure: Exception | None = None
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self._told = told
        self._sheets = sheets
        self._matching = matching
        self._clock = clock
        self._looking = asyncio.Lock()
        self._looked: Moment | None = None
        self._freshness: Freshness | None = None
        self._kept: dict[tuple[int, bool], tuple[bytes, ...]] = {}
        # Plain futures: with hundreds of readers, an Event's own bookkeeping costs as much as sending to them.
        self._waiting: list[asyncio.Future[None]] = []

    def resume(self, board: Board, life: str) -> None:
        """Goes on with that board, whose name is ``life``, before the first look."""
        self.board, self.life = board, life

    def cursor(self, position: int) -> str:
        """The position as callers get it."""
        return cursor_text(self.life, position)

    async def first(self) -> None:
        """Returns once the board is new enough for a new reader. Raises InvalidExpression, or what hindered it."""
        async with self._looking:
            # Of many who come at once, one looks for all.
            if self._looked is None or self._clock.now().monotonic_s - self._looked.monotonic_s > FIRST_REUSE_S:
                await self._look()

    def messages(self, position: int, *, first: bool, resync: bool = False) -> tuple[bytes, ...]:
        """Serialised StreamQualityReportsResponses for who was told all until ``position``. ``first``: one at least.
        The position after them is the board's tick."""
        found = self._kept.get((position, resync))
        if found is None and self.board.all_since(position):
            found = self._kept.get((BEGIN, resync))
            if found is not None and len(found) > 1:
                # They have the cursor before them.
                found = None
        if found is None:
            found = self._made(position, resync=resync)
            if len(self._kept) < _KEPT:
                alike = len(found) == 1 and self.board.all_since(position)
                self._kept[BEGIN if alike else position, resync] = found
        if found or not first:
            return found
        return self._packed(position, [], resync=resync)

    async def after(self, beats: int) -> bool:
        """Returns true once there were more than ``beats`` turns, false where there will be no more."""
        while self.beats == beats and not self.ended:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        return self.beats != beats

    async def run(self) -> None:
        """Has its turns until the room closes. Raises what hindered one."""
        turns = asyncio.create_task(self._turns(), name=f"quality turns of {self.live.name}")
        closing = asyncio.create_task(self.live.wait_closed(), name=f"closing of {self.live.name}")
        try:
            done, _ = await asyncio.wait({turns, closing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            turns.cancel()
            closing.cancel()
            await asyncio.gather(turns, closing, return_exceptions=True)
        if self.board.fresh(self._told.ended()):
            # What ended with the room is told before the stream ends.
            await self._turn()

    def end(self) -> None:
        """Lets the readers go. May be called twice."""
        self.ended = True
        self._kept.clear()
        self._wake()

    async def _turns(self) -> None:
        interval_s = self.choice.interval_s
        next_s = self._clock.now().monotonic_s + interval_s
        while True:
            await self._clock.sleep(max(0.0, next_s - self._clock.now().monotonic_s))
            await self._turn()
            # Turns that were missed are left out, and the beat is kept.
            behind_s = self._clock.now().monotonic_s - next_s
            next_s += interval_s * (1 + max(0, int(behind_s / interval_s)))

    async def _turn(self) -> None:
        async with self._looking:
            await self._look()
        self.beats += 1
        self._wake()

    async def _look(self) -> None:
        selection = self.choice.selection
        tracks = [track for track in self.live.model.tracks.values() if selection.holds(track)]
        tracks.sort(key=lambda track: (track.participant_identity, track.sid))
        sheet, now = self._sheets.sheet(self.choice), self._clock.now()
        entries: list[tuple[Entry, bool]] = []
        for number, track in enumerate(tracks, start=1):
            entry = sheet.entry(track)
            entries.append((entry, self._matching.holds(entry.report)))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        # After the reports: an alert that they do not have any more has ended.
        ended = self._told.ended()
        fresh = self.board.fresh(ended)
        matching = [entry for entry, holds in entries if self._holds(entry, holds, fresh)]
        self.board.look(matching, {track.sid for track in tracks}, ended, now.monotonic_s)
        self._kept.clear()
        self._looked, self._freshness = now, self.live.freshness()

    def _holds(self, entry: Entry, holds: bool, fresh: Mapping[str, list[QualityAlert]]) -> bool:
        """Whether it matches with the alerts that ended, too, which it is told with."""
        ended = fresh.get(entry.report.track_sid)
        return self._matching.holds(entry.with_ends(ended)) if ended else holds

    def _made(self, position: int, *, resync: bool) -> tuple[bytes, ...]:
        news = self.board.since(position)
        if self.choice.only_changes and not news:
            return ()
        pieces = [
            report_piece(entry.with_ends(ended).SerializeToString() if ended else entry.encoded)
            for entry, ended in news.reports
        ]
        pieces += map(gone_piece, news.gone)
        pieces += (ended_piece(alert.SerializeToString()) for alert in news.ended)
        return self._packed(position, pieces, resync=resync)

    def _packed(self, position: int, pieces: list[bytes], *, resync: bool) -> tuple[bytes, ...]:
        assert self._looked is not None
        head = StreamQualityReportsResponse(time=stamp_of(self._looked), freshness=self._freshness, resync=resync)
        return put_together(head, self.cursor(position), self.cursor(self.board.tick), pieces)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            # One whose reader went away is cancelled.
            if not turn.done():
                turn.set_result(None)
