"""How often statistics of a room's hosted sessions are wanted."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

SHORTEST_S: Final = 1.0
"""Statistics come at most once in so many seconds: LiveKit reports reception no more often."""

LONGEST_S: Final = 5.0
"""Statistics come at least once in so many seconds while they are wanted, however long the window, so that a reset
or a pause costs 5 s of a 60 s window and not all of it."""

Observer = Callable[[str, float | None], None]
"""Called with a room's name and its new interval in seconds, or None where statistics are no longer wanted."""


class Demand:
    """Counts who wants statistics, per room and interval. ``observer`` hears of each change of a room's interval."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._wanted: dict[str, Counter[float]] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}

    def interval(self, room: str) -> float | None:
        """Seconds between two statistics of ``room``, 1 to 5; None where nobody wants them."""
        wanted = self._wanted.get(room)
        return min(LONGEST_S, max(SHORTEST_S, min(wanted))) if wanted else None

    @contextmanager
    def hold(self, room: str, interval_s: float) -> Iterator[None]:
        """Wants them at ``interval_s`` for the span of the block."""
        self._change(room, interval_s, 1)
        try:
            yield
        finally:
            self._change(room, interval_s, -1)

    def linger(self, room: str, linger_s: float) -> None:
        """Wants them as often as possible until ``linger_s`` have passed since the last call for ``room``."""
        handle = self._lingering.pop(room, None)
        if handle is None:
            self._change(room, SHORTEST_S, 1)
        else:
            handle.cancel()
        self._lingering[room] = asyncio.get_running_loop().call_later(linger_s, self._leave, room)

    def close(self) -> None:
        """Ends all lingering. May be called twice."""
        for room, handle in list(self._lingering.items()):
            handle.cancel()
            self._leave(room)

    def _leave(self, room: str) -> None:
        del self._lingering[room]
        self._change(room, SHORTEST_S, -1)

    def _change(self, room: str, interval_s: float, by: int) -> None:
        before = self.interval(room)
        wanted = self._wanted.setdefault(room, Counter())
        wanted[interval_s] += by
        if not wanted[interval_s]:
            del wanted[interval_s]
        if not wanted:
            del self._wanted[room]
        after = self.interval(room)
        if after != before:
            self._observer(room, after)
