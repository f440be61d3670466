"""A media worker that `serve` started, as the supervisor knows it: its load, and the sessions that it was offered."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog

from track_server.agent import Answer, Line, Load, Offer, Over, Withdraw, line_of

log = structlog.get_logger(__name__)

# A worker answers within a millisecond; where it takes so long, it hangs, and is asked no more until it says something.
_ANSWER_S: Final = 3.0


class OfferedSession:
    """A session that a worker was offered, and took unless ``over``."""

    def __init__(self, worker: "SupervisedWorker", offer_id: str, over: Callable[[], None]) -> None:
        self.worker_pid = worker.pid
        """Process id of the worker."""
        self.over = False
        """The worker's session is over, or the worker is."""
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._worker = worker
        self._offer_id = offer_id
        self._on_over = over

    def withdraw(self) -> None:
        """The worker need not host it any more; what it began ends. Does nothing where it is over."""
        if not self.over:
            self._worker.say(Withdraw(self._offer_id))

    def answer(self, taken: bool) -> None:
        """The worker has answered."""
        if not self.answered.done():
            self.answered.set_result(taken)

    def end(self) -> None:
        """It is over."""
        self.answer(False)
        if not self.over:
            self.over = True
            self._on_over()


class SupervisedWorker:
    """One process, from its start to its end."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter) -> None:
        self.load = Load(0, 0)
        """As it told last; it takes 0 sessions until it has told any."""
        self.pid = pid
        self.was_ready = False
        """It has taken offers, so that it did not fail to start."""
        self._stdin = stdin
        self._offered: dict[str, OfferedSession] = {}
        self._unanswered = 0
        self._silent = False
        """It left an offer unanswered, and has said nothing since: it hangs."""

    @property
    def answers(self) -> bool:
        """Whether it can be asked."""
        return self.load.max_sessions > 0 and not self._silent

    @property
    def busy(self) -> float:
        """Share of its places that is taken, from 0 to 1, offers included that it has not answered."""
        return min(1.0, (self.load.sessions + self._unanswered) / max(1, self.load.max_sessions))

    @property
    def full(self) -> bool:
        """Whether it has said that it has no place."""
        return self.load.sessions >= self.load.max_sessions

    @property
    def has_room(self) -> bool:
        """Whether it can be asked and is not full."""
        return self.answers and not self.full

    async def offer(self, ticket: str, token: str, over: Callable[[], None]) -> OfferedSession | None:
        """Offers it a session; returns it where it was taken. ``over``: see OfferedSession."""
        offer_id = secrets.token_hex(8)
        session = self._offered[offer_id] = OfferedSession(self, offer_id, over)
        self._unanswered += 1
        self.say(Offer(offer_id, ticket, token, time.monotonic() + _ANSWER_S))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return session if await session.answered else None
        except TimeoutError:
            self._silent = True
            log.warning("media_worker_does_not_answer", pid=self.pid)
            self._forget(offer_id)
            return None
        except BaseException:
            self._forget(offer_id)
            raise
        finally:
            self._unanswered -= 1

    def heard(self, message: Line) -> None:
        """It has said something."""
        self._silent = False
        match message:
            case Load():
                if not self.was_ready:
                    log.info("media_worker_ready", pid=self.pid, places=message.max_sessions)
                self.load = message
                self.was_ready = True
            case Answer(offer_id, True) if offer_id in self._offered:
                self._offered[offer_id].answer(True)
            case Answer(offer_id, False) | Over(offer_id) if offer_id in self._offered:
                self._offered.pop(offer_id).end()
            case _:
                pass

    def _forget(self, offer_id: str) -> None:
        """Nobody waits for what it answers: what it may have taken all the same ends."""
        if (session := self._offered.pop(offer_id, None)) is not None:
            session.withdraw()

    def say(self, message: Line) -> None:
        """Say something to it. Lost where it is ending."""
        if not self._stdin.is_closing():
            self._stdin.write(line_of(message))

    def ended(self) -> None:
        """It has ended, and with it what it hosted."""
        self.load = Load(0, 0)
        while self._offered:
            self._offered.popitem()[1].end()
