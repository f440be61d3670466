"""What a store keeps beside its records: journals, to which entries are only ever appended.

An entry is of a kind and a room; its body is bytes of the owner's choice. Its sequence number grows with every entry of
the store and is never given twice. The oldest go first: by age, and beyond a number of entries of the kind.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry. ``time``: when it was appended, in seconds since 1970 UTC."""

    sequence: int
    room: str
    time: float
    body: bytes


class Journal(Protocol):
    """Durable entries. What was acknowledged is there after a crash.

    A caller that is cancelled while it waits does not undo what it asked for. `append` and `newest` raise StoreError
    once the store is closed or its medium fails.
    """

    @property
    def failing(self) -> bool:
        """Whether the store's last write failed; known at once."""

    def retain(self, kind: str, *, age_s: float, entries: int) -> None:
        """From now on keep entries of the kind so long, and so many at most; without it they are kept for good.

        Those that are too old are not shown from then on. They are deleted step by step, later.
        """

    async def append(self, kind: str, room: str, body: bytes) -> int:
        """Append an entry; returns its sequence number, 1 or more."""

    async def newest(self, kind: str, room: str | None, *, before: int | None, limit: int) -> list[JournalEntry]:
        """At most ``limit`` entries, newest first, of one room or (None) of all.

        ``before``: only entries with smaller sequence numbers. None: from the newest on.
        """
