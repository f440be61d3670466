"""StreamQualityReports: reports at an interval, for any number of readers, slow ones and stopped ones too."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, Self

from track.v1.quality_pb2 import StreamQualityReportsRequest
from track_server.errors import Draining, Internal, ReaderTooSlow, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.quality.clock import Clock, SystemClock
from track_server.quality.live.room import Room
from track_server.quality.streaming.board import BEGIN, KEPT_S, Board
from track_server.quality.streaming.choice import Choice
from track_server.quality.streaming.cursor import read_cursor
from track_server.quality.streaming.matching import Matching
from track_server.quality.streaming.ticker import Sheets, Ticker, Told

PATIENCE_S: Final = 60.0
"""A reader that does not take a message for so long, in seconds, has stopped."""

_RESTING: Final = 1000
"""Boards without readers that are kept, at most: the oldest go first."""

_RETRY_S: Final = 1.0
_LOOK_S: Final = 1.0
"""How often it is looked whether a reader has stopped."""

End = Callable[[TrackError], None]
"""Ends the call of a stream from outside, with that error, even while a message is being written to it."""

_Key = tuple[str, Choice]


@dataclass(eq=False, slots=True)
class _Reader:
    """Of ``ticker``. ``before``, ``after``: positions before and after what is being told; ``left``: messages of it
    that are not written yet; ``writing_s``: the last look before one was, monotonic; None while none is."""

    end: End
    ticker: Ticker
    before: int = BEGIN
    after: int = BEGIN
    left: int = 0
    writing_s: float | None = None

    def cursor(self) -> str:
        """Where it may resume once the message that is being written has come."""
        return self.ticker.cursor(self.before if self.left else self.after)


@dataclass(eq=False, slots=True)
class _Followed:
    """A room with tickers. ``leave``: ends its being followed."""

    told: Told
    sheets: Sheets
    leave: Callable[[], None]
    tickers: int = 0


Follow = Callable[[Room], tuple[Told, Callable[[], None]]]
"""Has a room followed from now on; gives what is known of it, and what ends that."""


class Streams(Closing):
    """Owner of the tickers, one for each room and choice that has readers; `async with`.

    ``patience_s``: see PATIENCE_S. Times of messages are of ``clock``; patience is of the machine's.
    """

    def __init__(self, follow: Follow, *, clock: Clock | None = None, patience_s: float = PATIENCE_S) -> None:
        self._follow = follow
        self._clock: Clock = clock or SystemClock()
        self._patience_s = patience_s
        self._rooms: dict[Room, _Followed] = {}
        self._tickers: dict[_Key, Ticker] = {}
        self._resting: dict[_Key, tuple[Board, str, float]] = {}
        """Boards without readers, their names, and since when, monotonic; the oldest first."""
        self._readers: set[_Reader] = set()
        self._looked_s = asyncio.get_running_loop().time()
        """When it was looked last whether a reader has stopped."""
        self._tasks = Tasks()
        self._draining = False

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._watch(), name="readers of quality reports")
        return self

    async def aclose(self) -> None:
        """Ends all streams with Draining. May be called twice."""
        self._draining = True
        await self._tasks.aclose()

    def __len__(self) -> int:
        """Tickers that run."""
        return len(self._tickers)

    async def stream(self, room: Room, request: StreamQualityReportsRequest, end: End) -> AsyncGenerator[bytes]:
        """Serialised StreamQualityReportsResponses until the room closes.

        The caller keeps the room watched meanwhile, and closes the iterator. Who has the next message before it asks
        for it waits for nothing; who asks late gets the newest; and who does not ask for PATIENCE_S is ended by ``end``
        with ReaderTooSlow. Raises InvalidCursor, InvalidExpression, ParticipantNotFound, TrackNotFound at once,
        InvalidExpression later where the filter takes too long, Draining, or Internal where a report could not be made.
        """
        choice = Choice.of(request)
        asked = read_cursor(request.cursor) if request.cursor else None
        matching = Matching(choice.filter, lambda: self._clock.now().monotonic_s)
        if self._draining:
            raise Draining("the server is shutting down")
        if room.closed:
            return
        if asked is None or not self._knows((room.name, choice), *asked):
            # Who resumes may have been told of what went since.
            choice.selection.require(room.model)
        ticker = self._ticker(room, choice, matching)
        reader = _Reader(end, ticker)
        self._readers.add(reader)
        ticker.readers += 1
        try:
            await ticker.first()
            resumes = asked is not None and asked[0] == ticker.life and ticker.board.reaches(asked[1])
            position = asked[1] if asked is not None and resumes else BEGIN
            beats = ticker.beats
            parts = ticker.messages(position, first=True, resync=asked is not None and not resumes)
            while True:
                reader.before, reader.after, reader.left = position, ticker.board.tick, len(parts)
                for part in parts:
                    reader.left -= 1
                    reader.writing_s = self._looked_s
                    yield part
                reader.writing_s = None
                position = reader.after
                if ticker.beats == beats and not await ticker.after(beats):
                    break
                beats = ticker.beats
                parts = ticker.messages(position, first=False)
        finally:
            self._readers.discard(reader)
            ticker.readers -= 1
            if not ticker.readers:
                self._drop(ticker)
        if isinstance(ticker.failure, TrackError):
            raise ticker.failure.with_traceback(None)
        if ticker.failure is not None:
            raise Internal("the quality reports could not be made") from ticker.failure
        if self._draining:
            raise Draining("the server is shutting down")

    def _knows(self, key: _Key, life: str, position: int) -> bool:
        """Whether it can be resumed there."""
        running = self._tickers.get(key)
        if running is not None:
            return running.life == life and running.board.reaches(position)
        board, known, _ = self._resting.get(key, (None, "", 0.0))
        return board is not None and known == life and board.reaches(position)

    def _ticker(self, room: Room, choice: Choice, matching: Matching) -> Ticker:
        key = (room.name, choice)
        running = self._tickers.get(key)
        if running is not None and not running.ended:
            return running
        followed = self._rooms.get(room)
        if followed is None:
            told, leave = self._follow(room)
            followed = self._rooms[room] = _Followed(told, Sheets(told, self._clock), leave)
        followed.tickers += 1
        ticker = Ticker(followed.told, followed.sheets, choice, matching, self._clock)
        # Where one is that has ended, its slow readers still need its board.
        if running is None and (rested := self._resting.pop(key, None)):
            ticker.resume(*rested[:2])
        self._tickers[key] = ticker
        name = f"quality reports of {room.name} each {choice.interval_s:g} s"
        ticker.task = self._tasks.begin(self._run(ticker), name=name)
        # Not at the end of the task's work, which may be cancelled before it begins.
        ticker.task.add_done_callback(lambda _: self._unfollow(room))
        return ticker

    async def _run(self, ticker: Ticker) -> None:
        try:
            await ticker.run()
        except Exception as error:  # noqa: BLE001 - every reader raises it
            ticker.failure = error
        finally:
            ticker.end()
            if not ticker.readers:
                self._drop(ticker)

    def _drop(self, ticker: Ticker) -> None:
        """Nobody reads it any more: its board rests."""
        if ticker.task is not None:
            ticker.task.cancel()
        key = (ticker.live.name, ticker.choice)
        if self._tickers.get(key) is ticker:
            del self._tickers[key]
            if ticker.board.tick != BEGIN:
                ticker.board.rest()
                self._resting[key] = (ticker.board, ticker.life, self._now())
                while len(self._resting) > _RESTING:
                    del self._resting[next(iter(self._resting))]

    def _unfollow(self, room: Room) -> None:
        followed = self._rooms[room]
        followed.tickers -= 1
        if not followed.tickers:
            del self._rooms[room]
            followed.leave()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_S, self._patience_s / 4))
            now_s = self._looked_s = self._now()
            for reader in [each for each in self._readers if _stopped(each, now_s - self._patience_s)]:
                reader.writing_s = None
                reader.end(
                    ReaderTooSlow(
                        f"no message was taken for {self._patience_s:g} s; resume after the cursor",
                        retry_delay_s=_RETRY_S,
                        metadata={"cursor": reader.cursor()},
                    )
                )
            for key in [key for key, (_, _, since_s) in self._resting.items() if now_s - since_s > KEPT_S]:
                del self._resting[key]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _stopped(reader: _Reader, since_s: float) -> bool:
    return reader.writing_s is not None and reader.writing_s < since_s
