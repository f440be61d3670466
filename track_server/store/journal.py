"""What a store keeps beside its records: journals, to which entries are only ever appended.

An entry is of a kind and a room; its body is bytes of the owner's choice. Its sequence number grows with every entry of
the store and is never given twice. The oldest go first: by age, and beyond a number of entries, or of bytes.

The owner may give an entry a mark and a number, to find it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry. ``time``: when it was appended, in seconds since 1970 UTC. ``mark``: empty where it has none."""

    sequence: int
    room: str
    time: float
    body: bytes
    mark: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Addition:
    """An entry to be appended. ``mark``: not empty. ``number``: 0 or more."""

    room: str
    body: bytes
    mark: str
    number: int


@dataclass(frozen=True, slots=True)
class RoomRetention:
    """How much is kept of one room's marked entries: so many at most, and bytes of their bodies in all."""

    entries: int
    bytes: int


class Journal(Protocol):
    """Durable entries. What was acknowledged is there after a crash.

    A caller that is cancelled while it waits does not undo what it asked for. All that wait raise StoreError once the
    store is closed or its medium fails.
    """

    @property
    def failing(self) -> bool:
        """Whether the store's last write failed; known at once."""

    def retain(
        self,
        kind: str,
        *,
        age_s: float,
        entries: int | None = None,
        max_bytes: int | None = None,
        of_room: RoomRetention | None = None,
    ) -> None:
        """From now on keep entries of the kind so long, and so many at most; without it they are kept for good.

        ``max_bytes``: of the bodies of its marked entries in all. ``of_room``: of each room. None: any number.
        Those that are too old are not shown from then on. They are deleted step by step, later.
        """

    async def append(self, kind: str, room: str, body: bytes) -> int:
        """Append an entry; returns its sequence number, 1 or more."""

    async def append_all(self, kind: str, additions: Sequence[Addition]) -> None:
        """Append entries in that order, all or none."""

    async def newest(self, kind: str, room: str | None, *, before: int | None, limit: int) -> list[JournalEntry]:
        """At most ``limit`` entries, newest first, of one room or (None) of all.

        ``before``: only entries with smaller sequence numbers. None: from the newest on.
        """

    async def after(self, kind: str, room: str, *, sequence: int, limit: int) -> list[JournalEntry]:
        """At most ``limit`` entries of the room with greater sequence numbers, oldest first."""

    async def find(self, kind: str, room: str, *, mark: str, number: int) -> JournalEntry | None:
        """The room's entry with that mark and the greatest number that is not above ``number``; None: there is none."""
