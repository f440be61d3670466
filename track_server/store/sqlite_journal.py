"""Journals in the SQLite file of the records."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from track_server.store.journal import JournalEntry
from track_server.store.transactions import Transactions

# How often old entries are deleted, and at most how many at a time. They are invisible before, so it can wait.
_TRIM_INTERVAL_S: Final = 30.0
# Not less than a transaction has items (Transactions), or a journal could grow faster than it is trimmed.
_TRIM_BATCH: Final = 500

# SQLite's largest integer.
_ENDLESS: Final = 2**63 - 1

# The kind's oldest, by its index, whose entries are in the order of their sequence numbers.
_OLDEST: Final = "SELECT sequence FROM journal INDEXED BY journal_kind WHERE kind = ? ORDER BY sequence LIMIT ?"


@dataclass(frozen=True, slots=True)
class _Retention:
    """How much of a kind is kept."""

    age_s: float
    entries: int


class SqliteJournal:
    """A `Journal` on the thread of ``transactions``. ``clock`` gives seconds since 1970 UTC."""

    def __init__(self, transactions: Transactions, clock: Callable[[], float]) -> None:
        self._transactions = transactions
        self._clock = clock
        self._retention: dict[str, _Retention] = {}
        self._trim_at = 0.0

    @property
    def failing(self) -> bool:
        """See Journal."""
        return self._transactions.failing

    def retain(self, kind: str, *, age_s: float, entries: int) -> None:
        """See Journal."""
        # A new dict: the thread may be walking the old one.
        self._retention = {**self._retention, kind: _Retention(age_s, entries)}

    async def append(self, kind: str, room: str, body: bytes) -> int:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> int:
            # On the thread, so that times are in the order of the sequence numbers.
            bound = (kind, room, self._clock(), body)
            cursor = connection.execute("INSERT INTO journal (kind, room, time, body) VALUES (?, ?, ?, ?)", bound)
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        return await self._transactions.write(work)

    async def newest(self, kind: str, room: str | None, *, before: int | None, limit: int) -> list[JournalEntry]:
        """See Journal."""

        def work(connection: sqlite3.Connection) -> list[JournalEntry]:
            where, bound = ("kind = ?", [kind]) if room is None else ("kind = ? AND room = ?", [kind, room])
            index = "journal_kind" if room is None else "journal_room"
            rows = connection.execute(
                f"SELECT sequence, room, time, body FROM journal INDEXED BY {index}"
                f" WHERE {where} AND sequence < ? ORDER BY sequence DESC LIMIT ?",
                (*bound, _ENDLESS if before is None else before, limit),
            )
            since = self._since(kind)
            # Where one is too old, all before it are: no need to walk through what is still to be deleted.
            return list(takewhile(lambda entry: entry.time > since, (JournalEntry(*row) for row in rows)))

        return await self._transactions.read(work)

    # From here on: on the thread of the transactions.

    def trim_numbers(self, connection: sqlite3.Connection) -> bool:
        """Delete what is beyond the number of entries kept, some at a time; returns whether there is more.

        Part of each writing transaction: what is appended pays for itself, and no further sync to disk is needed.
        """
        more = False
        for kind, retention in self._retention.items():
            row = connection.execute("SELECT entries FROM journal_size WHERE kind = ?", (kind,)).fetchone()
            if row is not None and (beyond := row[0] - retention.entries) > 0:
                more |= beyond > _TRIM_BATCH
                statement = f"DELETE FROM journal WHERE sequence IN ({_OLDEST})"
                connection.execute(statement, (kind, min(beyond, _TRIM_BATCH)))
        return more

    def trim(self, connection: sqlite3.Connection) -> None:
        """Delete what is too old or too much, now and then and some at a time."""
        if time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + _TRIM_INTERVAL_S
        more = self.trim_numbers(connection)
        for kind in self._retention:
            statement = f"DELETE FROM journal WHERE sequence IN ({_OLDEST}) AND time <= ?"
            deleted = connection.execute(statement, (kind, _TRIM_BATCH, self._since(kind))).rowcount
            more |= deleted == _TRIM_BATCH
        if more:  # go on after the next round of work
            self._trim_at = 0.0

    def _since(self, kind: str) -> float:
        """Entries of the kind that are not younger do not exist."""
        retention = self._retention.get(kind)
        return float("-inf") if retention is None else self._clock() - retention.age_s
