"""The time as the quality reports need it; replaced in tests."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on two clocks. ``time_s``: seconds since 1970 UTC. ``monotonic_s``: of a clock that is never set."""

    time_s: float
    monotonic_s: float


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> Moment:
        """This moment."""

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> Moment:
        """This moment."""
        return Moment(time.time(), time.monotonic())

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``."""
        await asyncio.sleep(seconds)
