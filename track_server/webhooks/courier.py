"""One subscription's way to its receiver: who of its rooms may send now, and how the last try went."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from track.v1 import error_pb2
from track_server.errors import TrackError
from track_server.webhooks.sender import Sender
from track_server.webhooks.subscription import Subscription
from track_server.webhooks.tallies import Tally

# Requests at the same time: to one receiver, and to all. One that fails gets one at a time, so that receivers that hang
# until the timeout take no places from those that answer.
_TO_ONE: Final = 4
_TO_ALL: Final = 256


class Places:
    """Requests that may be on their way at the same time, over all receivers."""

    def __init__(self, most: int = _TO_ALL) -> None:
        self.semaphore = asyncio.Semaphore(most)


class Courier:
    """Takes the bodies of all rooms of a subscription to its receiver."""

    def __init__(self, subscription: Subscription, sender: Sender, places: Places, tally: Tally) -> None:
        self.subscription = subscription
        self.tally = tally
        self.problem: error_pb2.Problem | None = None
        """How the last try failed; None after one that did not."""
        self._sender = sender
        self._places = places
        self._slots = asyncio.Semaphore(_TO_ONE)
        self._probe = asyncio.Lock()
        self._recovered = asyncio.Event()

    async def send(self, body: bytes) -> None:
        """Returns once the receiver has taken it. Raises TrackError, with how that failed."""
        async with self._turn(), self._places.semaphore:
            try:
                await self._sender.post(self.subscription.message.url, body)
            except TrackError as error:
                self.problem = error.problem()
                self.problem.ClearField("retry_delay")
                raise
        if self.problem is not None:
            self.problem = None
            recovered, self._recovered = self._recovered, asyncio.Event()
            recovered.set()

    async def recovered(self, within_s: float) -> None:
        """Returns when the receiver takes something again after it did not, or after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._recovered.wait()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._slots if self.problem is None else self._probe:
            yield
