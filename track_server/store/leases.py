"""Leases: of several servers on one store, one at a time does a piece of work. Kept as records of any store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from track_server.store.records import RevisionConflict, Store

KIND: Final = "lease"


@dataclass(frozen=True, slots=True)
class Lease:
    """One that is held. ``expire_time``: seconds since 1970 UTC, from which on somebody else may hold it. ``fence``:
    greater than that of anybody who held it before, so that what a holder wrote who is late can be told from it."""

    room: str
    key: str
    fence: int
    expire_time: float


class Leases:
    """The leases of one ``owner``, a text that no other server has. ``clock``: seconds since 1970 UTC, on which the
    servers agree to well below the time that leases are taken for."""

    def __init__(self, store: Store, owner: str, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._owner = owner.encode()
        self._clock = clock

    async def take(self, room: str, key: str, for_s: float) -> Lease | None:
        """Takes the lease, or what is left of it anew where the owner has it; None where somebody else has it.

        Raises StoreError.
        """
        record = await self._store.get(KIND, room, key)
        if record is not None and record.body != self._owner:
            return None
        return await self._put(room, key, 0 if record is None else record.revision, for_s)

    async def renew(self, lease: Lease, for_s: float) -> Lease | None:
        """Holds it longer; None where it has lapsed, or is somebody else's by now. Raises StoreError."""
        return await self._put(lease.room, lease.key, lease.fence, for_s)

    async def release(self, lease: Lease) -> None:
        """Gives it up. Raises StoreError."""
        # A record that has expired does not exist; deleting it could hit one that somebody else has by now.
        await self._put(lease.room, lease.key, lease.fence, 0.0)

    async def _put(self, room: str, key: str, revision: int, for_s: float) -> Lease | None:
        until = self._clock() + for_s
        try:
            fence = await self._store.put(KIND, room, key, self._owner, expected_revision=revision, expire_time=until)
        except RevisionConflict:
            return None
        return Lease(room, key, fence, until)
