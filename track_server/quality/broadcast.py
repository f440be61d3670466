"""Quality reports at an interval: built and serialised once a tick, however many read them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from track_server.errors import Draining, Internal
from track_server.lifetime import Closing, Tasks
from track_server.quality.clock import Clock
from track_server.quality.demand import Demand
from track_server.quality.reports import Selection
from track_server.quality.room import Room

FIRST_REUSE_S: Final = 0.5
"""A new reader's first message is the last one made, where that is no older than this, in seconds."""

Build = Callable[[Room, Selection, float], bytes]
"""Makes the serialised message for a room, a selection and an interval in seconds."""


class Broadcast(Closing):
    """Owner of the tickers, one for each room, selection and interval that has readers; `async with`."""

    def __init__(self, build: Build, demand: Demand, clock: Clock) -> None:
        self._build = build
        self._demand = demand
        self._clock = clock
        self._tickers: dict[tuple[int, Selection, float], _Ticker] = {}
        self._tasks = Tasks()
        self._draining = False

    async def aclose(self) -> None:
        """Ends all streams with Draining. May be called twice."""
        self._draining = True
        await self._tasks.aclose()

    def __len__(self) -> int:
        """Tickers that run."""
        return len(self._tickers)

    async def stream(self, room: Room, selection: Selection, interval_s: float) -> AsyncGenerator[bytes]:
        """Serialised StreamQualityReportsResponses: one at once, then one each ``interval_s``, until the room closes.

        Streams of the same room, selection and interval get the same bytes at the same time. Who reads too slowly
        misses messages and gets the newest. Raises Draining, or Internal where a report could not be made.
        """
        if self._draining:
            raise Draining("the server is shutting down")
        if room.closed:
            return
        # The ticker holds the room, so that its id cannot become another's.
        key = (id(room), selection, interval_s)
        ticker = self._tickers.get(key)
        if ticker is None:
            ticker = self._tickers[key] = _Ticker(room, selection, interval_s, self._build, self._clock)
            name = f"quality reports of {room.name} each {interval_s:g} s"
            ticker.task = self._tasks.begin(self._run(key, ticker), name=name)
        ticker.readers += 1
        try:
            seen = ticker.count
            yield ticker.first()
            while ticker.count != seen or await ticker.after(seen):
                seen = ticker.count
                yield ticker.message
        finally:
            ticker.readers -= 1
            if not ticker.readers:
                self._drop(key, ticker)
                if ticker.task is not None:
                    ticker.task.cancel()
        if ticker.failure is not None:
            raise Internal("the quality reports could not be made") from ticker.failure
        if self._draining:
            raise Draining("the server is shutting down")

    async def _run(self, key: tuple[int, Selection, float], ticker: "_Ticker") -> None:
        with self._demand.hold(ticker.room.name, ticker.interval_s):
            try:
                await ticker.run()
            except Exception as error:  # noqa: BLE001 - every reader raises it
                ticker.failure = error
            finally:
                self._drop(key, ticker)
                ticker.end()

    def _drop(self, key: tuple[int, Selection, float], ticker: "_Ticker") -> None:
        if self._tickers.get(key) is ticker:
            del self._tickers[key]


class _Ticker:
    """Makes the message of one room, selection and interval, and wakes its readers."""

    def __init__(self, room: Room, selection: Selection, interval_s: float, build: Build, clock: Clock) -> None:
        self.room = room
        self.interval_s = interval_s
        self.readers = 0
        self.message = b""
        self.count = 0
        """Ticks so far."""
        self.failure: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self._selection = selection
        self._build = build
        self._clock = clock
        self._made_s = -float("inf")
        self._ended = False
        # Plain futures: with hundreds of readers, an Event's own bookkeeping costs as much as sending to them.
        self._waiting: list[asyncio.Future[None]] = []

    def first(self) -> bytes:
        """What a new reader begins with."""
        if self._clock.now().monotonic_s - self._made_s > FIRST_REUSE_S:
            self._make()
        return self.message

    async def after(self, seen: int) -> bool:
        """Returns true once there was a tick after the tick ``seen``, false where there will be none."""
        while self.count == seen and not self._ended:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        return self.count != seen

    async def run(self) -> None:
        """Ticks until the room closes. Raises what hindered a message."""
        ticking = asyncio.create_task(self._tick(), name=f"ticks of {self.room.name}")
        closing = asyncio.create_task(self.room.wait_closed(), name=f"closing of {self.room.name}")
        try:
            done, _ = await asyncio.wait({ticking, closing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            ticking.cancel()
            closing.cancel()
            await asyncio.gather(ticking, closing, return_exceptions=True)

    def end(self) -> None:
        """Lets the readers go."""
        self._ended = True
        self._wake()

    async def _tick(self) -> None:
        next_s = self._clock.now().monotonic_s + self.interval_s
        while True:
            await self._clock.sleep(max(0.0, next_s - self._clock.now().monotonic_s))
            self._make()
            self.count += 1
            self._wake()
            # Ticks that were missed are left out, and the beat is kept.
            behind_s = self._clock.now().monotonic_s - next_s
            next_s += self.interval_s * (1 + max(0, int(behind_s / self.interval_s)))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            # One whose reader went away is cancelled.
            if not turn.done():
                turn.set_result(None)

    def _make(self) -> None:
        self.message = self._build(self.room, self._selection, self.interval_s)
        self._made_s = self._clock.now().monotonic_s
