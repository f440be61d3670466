"""What became of a subscription's events: how many were taken, how many parked, and the newest of those."""

import json
from collections import deque
from collections.abc import Collection
from typing import Final

from track.v1 import webhook_pb2
from track_server.store.records import Store

_COUNTS: Final = "webhook_counts"
_PARKED: Final = "webhook_parked"
_SHOWN: Final = 20
"""Parked events kept of a subscription."""


class Tally:
    """Of one subscription. Every change raises StoreError where it cannot be stored; it counts all the same."""

    def __init__(self, store: Store, room: str, subscription_id: str) -> None:
        self._store = store
        self._room = room
        self._id = subscription_id
        self.delivered = 0
        self.parked = 0
        self.newest: deque[webhook_pb2.ParkedDelivery] = deque(maxlen=_SHOWN)
        """Newest first."""

    async def load(self) -> None:
        """Reads what an earlier run left. Raises StoreError."""
        record = await self._store.get(_COUNTS, self._room, self._id)
        if record is not None:
            self.delivered, self.parked = json.loads(record.body)
        kept = await self._store.list(_PARKED, self._room)
        mine = sorted((int(record.key.rpartition(" ")[2]), record.body) for record in kept if self._owns(record.key))
        for number, body in mine:
            self.newest.appendleft(webhook_pb2.ParkedDelivery.FromString(body))
            self.parked = max(self.parked, number)

    async def taken(self) -> None:
        """One more was taken."""
        self.delivered += 1
        await self._save()

    async def park(self, delivery: webhook_pb2.ParkedDelivery) -> None:
        """One more was given up."""
        self.parked += 1
        number = self.parked
        self.newest.appendleft(delivery)
        await self._store.put(_PARKED, self._room, self._key(number), delivery.SerializeToString())
        await self._store.delete(_PARKED, self._room, self._key(number - _SHOWN))
        await self._save()

    async def forget(self) -> None:
        """The subscription is gone."""
        for record in await self._store.list(_PARKED, self._room):
            if self._owns(record.key):
                await self._store.delete(_PARKED, self._room, record.key)
        await self._store.delete(_COUNTS, self._room, self._id)

    async def _save(self) -> None:
        await self._store.put(_COUNTS, self._room, self._id, json.dumps([self.delivered, self.parked]).encode())

    def _key(self, number: int) -> str:
        return f"{self._id} {number}"

    def _owns(self, key: str) -> bool:
        return key.partition(" ")[0] == self._id


async def forget_all_but(store: Store, known: Collection[str]) -> None:
    """Forgets what is left of subscriptions that are not in ``known``. Raises StoreError."""
    for kind in (_COUNTS, _PARKED):
        for record in await store.list(kind):
            if record.key.partition(" ")[0] not in known:
                await store.delete(kind, record.room, record.key)
