"""How far the events of each room were taken by each receiver, in the store."""

import json
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from track_server.store.records import Store

_POSITION: Final = "webhook_position"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a receiver is in a room's events."""

    cursor: str = ""
    """After what it was given last, as callers get it. Empty: where the room is when it is seen next."""
    ended: bool = False
    """Whether that was the end of the room, so that its next life begins without a gap."""
    tries: int = 0
    """How often what comes next was tried."""
    failing_since: float = 0.0
    """Since when nothing was taken, in seconds since 1970 UTC; 0: the last one was."""


class Place(NamedTuple):
    """Of which receiver in which room."""

    subscription_id: str
    room: str


class Positions:
    """The positions. ``kept_s``: how long that of a room is kept which has ended: as long as its events are."""

    def __init__(self, store: Store, *, kept_s: float) -> None:
        self._store = store
        self.kept_s = kept_s

    async def load(self) -> dict[Place, Position]:
        """All of them. Raises StoreError."""
        return {
            Place(record.key, record.room): Position(**json.loads(record.body))
            for record in await self._store.list(_POSITION)
        }

    async def save(self, place: Place, position: Position, *, now: float) -> None:
        """Raises StoreError. ``now``: seconds since 1970 UTC."""
        expire_time = now + self.kept_s if position.ended else None
        body = json.dumps(asdict(position)).encode()
        await self._store.put(_POSITION, place.room, place.subscription_id, body, expire_time=expire_time)

    async def forget(self, place: Place) -> None:
        """Raises StoreError."""
        await self._store.delete(_POSITION, place.room, place.subscription_id)
