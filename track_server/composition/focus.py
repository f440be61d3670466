"""Focus: what is looked at in a room, kept as long as the room is there."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.composition.lives import living
from track_server.rooms.lives import Lives
from track_server.subscription.focus.focuses import Focuses
from track_server.subscription.focus.requests import FocusRequests


@dataclass(frozen=True, slots=True)
class Focused:
    """The parts."""

    focuses: Focuses
    requests: FocusRequests
    lives: Lives

    def restore(self) -> None:
        """Begins what an earlier run left."""
        self.lives.restore()


@contextlib.asynccontextmanager
async def focusing(ground: Foundation, authority: Authority) -> AsyncIterator[Focused]:
    """Focuses for the span of the block. What an earlier run left is read, and begun by ``restore``.

    Raises StoreError.
    """
    rooms = ground.rooms
    async with contextlib.AsyncExitStack() as stack:
        lives = await stack.enter_async_context(living(ground, owner="focus", kind="focus_room"))
        focuses = Focuses(rooms, ground.store, lives, most=ground.settings.max_focuses_per_room)
        await stack.enter_async_context(focuses)
        await focuses.load()
        lives.add(focuses)
        rooms.hear(focuses.spoke)
        rooms.contribute(focuses.contribute)
        yield Focused(focuses, FocusRequests(rooms, authority.access, focuses), lives)
