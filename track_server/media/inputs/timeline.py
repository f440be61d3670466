"""Time for inputs: a steady beat, and one time line for all that a session plays from the same file."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator


class Beat:
    """Waits for the moments 1/`rate` seconds apart, from the first call of `next` on; moments missed are left out."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1 / rate
        self._next = 0.0

    def pace(self, rate: float) -> None:
        """From the next moment on it is `rate`."""
        self._interval_s = 1 / rate

    async def next(self) -> None:
        """Wait for the next moment."""
        now = time.monotonic()
        if not self._next:
            self._next = now
        elif now > self._next + self._interval_s:
            self._next += math.floor((now - self._next) / self._interval_s) * self._interval_s
        await sleep_until(self._next)
        self._next += self._interval_s


class Timeline:
    """When the beginning was played first, for all that is played of a file: so they are in sync."""

    def __init__(self) -> None:
        self._epoch: float | None = None

    def start(self) -> float:
        """The moment of the beginning (`time.monotonic` seconds): now, where nobody has started it before."""
        if self._epoch is None:
            self._epoch = time.monotonic()
        return self._epoch

    def anchor(self, position_s: float, now: float) -> float:
        """The moment of the beginning, from which `position_s` is played `now` where nobody has started it before."""
        if self._epoch is None:
            self._epoch = now - position_s
        return self._epoch


class Timelines:
    """The time lines of a session by URI and offset. One lasts as long as anybody holds it."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, float], tuple[Timeline, int]] = {}

    @contextlib.contextmanager
    def hold(self, uri: str, offset_s: float = 0.0) -> Iterator[Timeline]:
        """The time line of what is played of `uri` from `offset_s` on, held while the context lasts."""
        key = uri, offset_s
        timeline, holders = self._held.get(key, (Timeline(), 0))
        self._held[key] = (timeline, holders + 1)
        try:
            yield timeline
        finally:
            timeline, holders = self._held.pop(key)
            if holders > 1:
                self._held[key] = (timeline, holders - 1)


async def sleep_until(moment: float) -> None:
    """Sleep until `moment` (`time.monotonic` seconds); gives way to others even where it has passed."""
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
