"""Keeps the restrictions of all rooms: one controller a room that has any."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from track_server.deadline import Deadline
from track_server.subscription.keeper import Keeper, Means


class Enforcement:
    """Owner of the controllers, `async with`."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._keepers: dict[str, Keeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the controllers; the restrictions stay. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def restore(self) -> None:
        """Begins the controllers of all restrictions that an earlier run left."""
        for room in self._means.restrictions.rooms():
            self.keeper(room)

    def keeper(self, room: str) -> Keeper:
        """The room's controller, begun where there is none, and told to look again."""
        keeper = self._keepers.get(room)
        if keeper is None:
            keeper = self._keepers[room] = Keeper(self._means, room, self._stir)
            task = asyncio.create_task(self._run(keeper), name=f"keep restrictions {room}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        keeper.kick()
        return keeper

    def kick(self, room: str) -> None:
        """Something changed for hosted sessions of the room."""
        keeper = self._keepers.get(room)
        if keeper is not None:
            keeper.kick()
        self._stir()

    async def until(self, room: str, condition: Callable[[], bool], deadline: Deadline) -> bool:
        """Waits until ``condition`` holds, at most until the deadline; it is tried after each look at a room."""
        keeper = self._keepers.get(room)
        if keeper is not None:
            keeper.waiting += 1
            keeper.kick()
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                while not condition():
                    await self._stirred.wait()
        except TimeoutError:
            return condition()
        finally:
            if keeper is not None:
                keeper.waiting -= 1
        return True

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def _run(self, keeper: Keeper) -> None:
        try:
            while self._means.restrictions.of_room(keeper.room):
                await keeper.run()
        finally:
            del self._keepers[keeper.room]
            self._stir()
