"""Which try of each publication a media worker is at, and when the next one is due."""

import asyncio
from collections.abc import Callable


class Retries:
    """Owner of the numbers of the tries, by publication id. ``due`` is called when one is raised."""

    def __init__(self, due: Callable[[], None]) -> None:
        self._due = due
        self._numbers: dict[str, int] = {}
        self._highest: dict[str, int] = {}
        """The highest that ever was wanted, or heard of."""
        self._waiting: dict[str, asyncio.TimerHandle] = {}

    def number(self, publication_id: str) -> int:
        """The try that is wanted now, from 0."""
        return self._numbers.get(publication_id, 0)

    def heard(self, publication_id: str, number: int) -> bool:
        """The worker is at that one: whether it is the one that is wanted.

        A worker that stayed may be further than a server that came back.
        """
        wanted = self.number(publication_id)
        if number > self._highest.get(publication_id, 0):
            self._numbers[publication_id] = self._highest[publication_id] = number
        return number >= wanted

    def again(self, publication_id: str, pause_s: float = 0.0) -> None:
        """One more try, after the pause."""
        self._cancel(publication_id)
        if pause_s <= 0:
            self._raise(publication_id)
        else:
            loop = asyncio.get_running_loop()
            self._waiting[publication_id] = loop.call_later(pause_s, self._raise, publication_id)

    def next(self, publication_id: str) -> int:
        """One more try, whose number is returned; ``due`` is not called."""
        self._cancel(publication_id)
        number = self._highest.get(publication_id, 0) + 1
        self._numbers[publication_id] = self._highest[publication_id] = number
        return number

    def back_to(self, publication_id: str, number: int) -> None:
        """An earlier try, which still stands, is wanted again; ``due`` is not called."""
        self._cancel(publication_id)
        self._numbers[publication_id] = number

    def forget(self, publication_id: str) -> None:
        """It is over."""
        self._cancel(publication_id)
        self._numbers.pop(publication_id, None)
        self._highest.pop(publication_id, None)

    def _raise(self, publication_id: str) -> None:
        self._waiting.pop(publication_id, None)
        self.next(publication_id)
        self._due()

    def _cancel(self, publication_id: str) -> None:
        if (waiting := self._waiting.pop(publication_id, None)) is not None:
            waiting.cancel()
