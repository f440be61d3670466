"""Records of what is in memory, which follow it: also later, where the store did not work."""

from collections.abc import Callable
from dataclasses import dataclass

from track_server.store.records import Store, StoreError


@dataclass(frozen=True, slots=True)
class Copy:
    """What a record must be. ``expire_time``: seconds since 1970 UTC from which on it may be gone, or None: never."""

    body: bytes
    expire_time: float | None


class Copies:
    """The records of one kind, whose owner has the truth in memory.

    ``of`` says what the record of a key must be now; None: there must be none. A record that could not be written is
    tried again after the next write that succeeds.
    """

    def __init__(self, store: Store, kind: str, of: Callable[[str], Copy | None]) -> None:
        self._store = store
        self._kind = kind
        self._of = of
        self._behind: dict[str, str] = {}
        """The rooms of the keys whose records are not what they must be."""

    def behind(self, key: str) -> bool:
        """Whether the record is known not to be what it must be."""
        return key in self._behind

    def lag(self, room: str, key: str) -> None:
        """The record is not what it must be: it is written after the next one."""
        self._behind[key] = room

    async def write(self, room: str, key: str) -> None:
        """Makes the record what it must be, and those that are behind as far as it goes. Raises StoreError for its own:
        then it is behind.
        """
        await self._write(room, key)
        for other, its_room in list(self._behind.items()):
            try:
                await self._write(its_room, other)
            except StoreError:
                return

    async def _write(self, room: str, key: str) -> None:
        copy = self._of(key)
        try:
            if copy is None:
                await self._store.delete(self._kind, room, key)
            else:
                await self._store.put(self._kind, room, key, copy.body, expire_time=copy.expire_time)
        except BaseException:
            self._behind[key] = room
            raise
        if self._of(key) == copy:
            self._behind.pop(key, None)
