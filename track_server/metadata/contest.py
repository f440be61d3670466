"""A client that writes over metadata again and again: put right so often, then left alone for a while. Pure."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

WINDOW_S: Final = 10.0
RESTORES: Final = 5
"""Put right so often within WINDOW_S."""
PAUSE_FIRST_S: Final = 10.0
PAUSE_LAST_S: Final = 600.0
"""Pauses, doubled from the first to the last as long as it goes on."""
_CALM_S: Final = 600.0
_KEPT: Final = 10_000


@dataclass(slots=True)
class _Course:
    times: list[float] = field(default_factory=list)
    pauses: int = 0
    paused_until: float = 0.0
    last: float = 0.0

    def calm(self, now: float) -> bool:
        """Whether it is over by itself."""
        return max(self.last, self.paused_until) + _CALM_S <= now


class Contests:
    """Those that go on. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._courses: dict[Hashable, _Course] = {}

    def overwritten(self, key: Hashable, now: float) -> float:
        """It was written over. Returns 0 where it is to be put right, else for how many seconds it is left alone."""
        if len(self._courses) >= _KEPT:
            self._courses = {key: found for key, found in self._courses.items() if not found.calm(now)}
        course = self._courses.setdefault(key, _Course())
        if course.calm(now):
            course.pauses = 0
        course.last = now
        if now < course.paused_until:
            return course.paused_until - now
        course.times = [time for time in course.times if time + WINDOW_S > now]
        if len(course.times) < RESTORES:
            course.times.append(now)
            return 0.0
        pause = min(PAUSE_FIRST_S * 2.0**course.pauses, PAUSE_LAST_S)
        course.pauses += 1
        course.paused_until = now + pause
        course.times.clear()
        return pause

    def paused(self, key: Hashable, now: float) -> bool:
        """Whether it is left alone now."""
        course = self._courses.get(key)
        return course is not None and now < course.paused_until

    def forget(self, key: Hashable) -> None:
        """It is over."""
        self._courses.pop(key, None)
