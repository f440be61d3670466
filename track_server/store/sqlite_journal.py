"""Journals in the SQLite file of the records."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from track_server.store.journal import Addition, JournalEntry, RoomRetention
from track_server.store.transactions import Transactions

# How often old entries are deleted, and at most how many at a time. They are invisible before, so it can wait.
_TRIM_INTERVAL_S: Final = 30.0
# Not less than a transaction has items (Transactions), or a journal could grow faster than it is trimmed.
_TRIM_BATCH: Final = 500
# Bytes are deleted with a little more than is needed, so that not every append has to.
_ROOM_TO_SPARE: Final = 16

# SQLite's largest integer.
_ENDLESS: Final = 2**63 - 1

_COLUMNS: Final = "sequence, room, time, body, mark, number"

# The oldest of a kind or of a room, by its index, whose entries are in the order of their sequence numbers.
_OF_KIND: Final = "FROM journal INDEXED BY journal_kind WHERE kind = ?"
_OF_ROOM: Final = "FROM journal INDEXED BY journal_room WHERE kind = ? AND room = ?"


@dataclass(frozen=True, slots=True)
class _Retention:
    """How much of a kind is kept."""

    age_s: float
    entries: int | None
    max_bytes: int | None
    of_room: RoomRetention | None


class SqliteJournal:
    """A `Journal` on the thread of ``transactions``. ``clock`` gives seconds since 1970 UTC."""

    def __init__(self, transactions: Transactions, clock: Callable[[], float]) -> None:
        self._transactions = transactions
        self._clock = clock
        self._retention: dict[str, _Retention] = {}
        self._trim_at = 0.0
        self._grown: set[tuple[str, str]] = set()
        """Kinds and rooms to which marked entries were appended since they were trimmed; the thread's own."""

    @property
    def failing(self) -> bool:
        """See Journal."""
        return self._transactions.failing

    def retain(
        self,
        kind: str,
        *,
        age_s: float,
        entries: int | None = None,
        max_bytes: int | None = None,
        of_room: RoomRetention | None = None,
    ) -> None:
        """See Journal."""
        # A new dict: the thread may be walking the old one.
        self._retention = {**self._retention, kind: _Retention(age_s, entries, max_bytes, of_room)}

    async def append(self, kind: str, room: str, body: bytes) -> int:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> int:
            # On the thread, so that times are in the order of the sequence numbers.
            bound = (kind, room, self._clock(), body)
            cursor = connection.execute("INSERT INTO journal (kind, room, time, body) VALUES (?, ?, ?, ?)", bound)
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        return await self._transactions.write(work)

    async def append_all(self, kind: str, additions: Sequence[Addition]) -> None:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> None:
            now = self._clock()
            # One statement, which SQLite undoes alone where it fails.
            rows = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(additions))
            bound = [part for one in additions for part in (kind, one.room, now, one.body, one.mark, one.number)]
            connection.execute(f"INSERT INTO journal (kind, room, time, body, mark, number) VALUES {rows}", bound)
            self._grown.update((kind, one.room) for one in additions)

        if additions:
            await self._transactions.write(work)

    async def newest(self, kind: str, room: str | None, *, before: int | None, limit: int) -> list[JournalEntry]:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> list[JournalEntry]:
            source, bound = (_OF_KIND, (kind,)) if room is None else (_OF_ROOM, (kind, room))
            rows = connection.execute(
                f"SELECT {_COLUMNS} {source} AND sequence < ? ORDER BY sequence DESC LIMIT ?",
                (*bound, _ENDLESS if before is None else before, limit),
            )
            since = self._since(kind)
            # Where one is too old, all before it are: no need to walk through what is still to be deleted.
            return list(takewhile(lambda entry: entry.time > since, (JournalEntry(*row) for row in rows)))

        return await self._transactions.read(work)

    async def after(self, kind: str, room: str, *, sequence: int, limit: int) -> list[JournalEntry]:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> list[JournalEntry]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} {_OF_ROOM} AND sequence > ? AND time > ? ORDER BY sequence LIMIT ?",
                (kind, room, sequence, self._since(kind), limit),
            )
            return [JournalEntry(*row) for row in rows]

        return await self._transactions.read(work)

    async def find(self, kind: str, room: str, *, mark: str, number: int) -> JournalEntry | None:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> JournalEntry | None:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM journal INDEXED BY journal_mark"
                " WHERE kind = ? AND room = ? AND mark = ? AND mark <> '' AND number <= ? AND time > ?"
                " ORDER BY number DESC LIMIT 1",
                (kind, room, mark, number, self._since(kind)),
            ).fetchone()
            return None if row is None else JournalEntry(*row)

        return await self._transactions.read(work)

    # From here on: on the thread of the transactions.

    def trim_numbers(self, connection: sqlite3.Connection) -> bool:
        """Delete what is beyond the number of entries and bytes kept, some at a time; returns whether there is more.

        Part of each writing transaction: what is appended pays for itself, and no further sync to disk is needed.
        """
        more = False
        for kind, retention in self._retention.items():
            row = connection.execute("SELECT entries, bytes FROM journal_size WHERE kind = ?", (kind,)).fetchone()
            if row is not None:
                more |= _trim(connection, _OF_KIND, (kind,), row, retention.entries, retention.max_bytes)
        for kind, room in list(self._grown):
            kept = self._retention.get(kind)
            of_room = None if kept is None else kept.of_room
            where = "SELECT entries, bytes FROM journal_of_room WHERE kind = ? AND room = ?"
            row = connection.execute(where, (kind, room)).fetchone()
            further = (
                row is not None
                and of_room is not None
                and _trim(connection, _OF_ROOM, (kind, room), row, of_room.entries, of_room.bytes)
            )
            if not further:
                self._grown.discard((kind, room))
            more |= further
        return more

    def trim(self, connection: sqlite3.Connection) -> None:
        """Delete what is too old or too much, now and then and some at a time."""
        if time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + _TRIM_INTERVAL_S
        more = self.trim_numbers(connection)
        for kind in self._retention:
            statement = f"DELETE FROM journal WHERE sequence IN (SELECT sequence {_OF_KIND} ORDER BY sequence LIMIT ?)"
            deleted = connection.execute(f"{statement} AND time <= ?", (kind, _TRIM_BATCH, self._since(kind))).rowcount
            more |= deleted == _TRIM_BATCH
        if more:  # go on after the next round of work
            self._trim_at = 0.0

    def _since(self, kind: str) -> float:
        """Entries of the kind that are not younger do not exist."""
        retention = self._retention.get(kind)
        return float("-inf") if retention is None else self._clock() - retention.age_s


def _trim(
    connection: sqlite3.Connection,
    source: str,
    bound: tuple[Any, ...],
    size: tuple[int, int],
    entries: int | None,
    max_bytes: int | None,
) -> bool:
    """Delete the oldest of ``source`` beyond that number and those bytes, a batch at most; returns whether to go on."""
    beyond = 0 if entries is None else size[0] - entries
    too_many_bytes = 0 if max_bytes is None else size[1] - max_bytes
    if too_many_bytes > 0:
        beyond = max(beyond, 0)
        oldest = connection.execute(f"SELECT length(body) {source} ORDER BY sequence LIMIT ?", (*bound, _TRIM_BATCH))
        goal = too_many_bytes + (max_bytes or 0) // _ROOM_TO_SPARE
        for count, (length,) in enumerate(oldest, start=1):
            goal -= length
            if goal <= 0 or count == _TRIM_BATCH:
                beyond = max(beyond, count)
                break
        else:
            beyond = size[0]
    if beyond <= 0:
        return False
    statement = f"DELETE FROM journal WHERE sequence IN (SELECT sequence {source} ORDER BY sequence LIMIT ?)"
    connection.execute(statement, (*bound, min(beyond, _TRIM_BATCH)))
    return beyond > _TRIM_BATCH or (too_many_bytes > 0 and beyond == _TRIM_BATCH)
