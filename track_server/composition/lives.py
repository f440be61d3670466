"""The rooms in which a capability holds something, followed."""

import contextlib
from collections.abc import AsyncIterator

from track_server.composition.foundation import Foundation
from track_server.rooms.lives import Lives


@contextlib.asynccontextmanager
async def living(ground: Foundation, *, owner: str, kind: str) -> AsyncIterator[Lives]:
    """For the span of the block. What an earlier run left is read, and begun by its ``restore``. Raises StoreError.

    ``owner``, ``kind``: see Lives. What is held is added to it.
    """
    async with Lives(ground.rooms, ground.standing, ground.store, owner=owner, kind=kind) as lives:
        await lives.load()
        ground.rooms.listen(lives.happened)
        ground.standing.listen(lives.watched)
        ground.standing.miss(lives.missed)
        yield lives
