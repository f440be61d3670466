"""Keeps the restrictions of all rooms: one controller a room that has any."""

from collections.abc import Callable

from track_server.deadline import Deadline
from track_server.lifetime import Closing, Tasks
from track_server.private_tracks.keeper import Keeper, Means
from track_server.pulse import Pulse


class Enforcement(Closing):
    """Owner of the controllers, `async with`."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._keepers: dict[str, Keeper] = {}
        self._tasks = Tasks()
        self._stirred = Pulse()

    async def aclose(self) -> None:
        """Ends the controllers; the restrictions stay. May be called twice."""
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins the controllers of all restrictions that an earlier run left."""
        for room in self._means.restrictions.rooms():
            self.keeper(room)

    def keeper(self, room: str) -> Keeper:
        """The room's controller, begun where there is none, and told to look again."""
        keeper = self._keepers.get(room)
        if keeper is None:
            keeper = self._keepers[room] = Keeper(self._means, room, self._stir)
            self._tasks.spawn(self._run(keeper), name=f"keep restrictions {room}")
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
            return await self._stirred.until(condition, deadline.remaining_s())
        finally:
            if keeper is not None:
                keeper.waiting -= 1
        return True

    def _stir(self) -> None:
        self._stirred.beat()

    async def _run(self, keeper: Keeper) -> None:
        try:
            while self._means.restrictions.of_room(keeper.room):
                await keeper.run()
        finally:
            del self._keepers[keeper.room]
            self._stir()
