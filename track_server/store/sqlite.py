"""Records and journals in a SQLite file."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from track_server.lifetime import Closing
from track_server.store.leases import KIND as LEASES
from track_server.store.records import Record, RevisionConflict
from track_server.store.schema import migrate
from track_server.store.sqlite_journal import SqliteJournal
from track_server.store.transactions import Transactions

# How often expired records are deleted, and at most how many at a time. They are invisible before, so it can wait.
_PRUNE_INTERVAL_S: Final = 30.0
_PRUNE_BATCH: Final = 500

_COLUMNS: Final = "kind, room, key, revision, body, expire_time"
_NAMED: Final = "kind = ? AND room = ? AND key = ?"
_LIVE: Final = "(expire_time IS NULL OR expire_time > ?)"
_INSERT: Final = f"INTO record ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_UPDATE: Final = "revision = excluded.revision, body = excluded.body, expire_time = excluded.expire_time"


class SqliteStore(Closing):
    """A `Store` in one file, which one process at a time may hold. `async with` opens it.

    ``clock`` gives seconds since 1970 UTC. Opening raises StoreError where the file cannot be used.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._path = path
        self._transactions = Transactions(
            path, prepare=self._prepare, before_commit=self._before_commit, idle=self._idle
        )
        self.journal = SqliteJournal(self._transactions, clock)
        self._last_revision = 0
        self._prune_at = 0.0

    async def __aenter__(self) -> Self:
        await self._transactions.open()
        return self

    async def get(self, kind: str, room: str, key: str) -> Record | None:
        """See Store."""

        def work(connection: sqlite3.Connection) -> Record | None:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM record WHERE {_NAMED} AND {_LIVE}", (kind, room, key, self._clock())
            ).fetchone()
            return None if row is None else Record(*row)

        return await self._transactions.read(work)

    async def list(self, kind: str, room: str | None = None) -> list[Record]:
        """See Store."""

        def work(connection: sqlite3.Connection) -> list[Record]:
            where, bound = ("", ()) if room is None else ("AND room = ?", (room,))
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM record WHERE kind = ? {where} AND {_LIVE} ORDER BY sequence",
                (kind, *bound, self._clock()),
            )
            return [Record(*row) for row in rows]

        return await self._transactions.read(work)

    async def put(
        self,
        kind: str,
        room: str,
        key: str,
        body: bytes,
        *,
        expected_revision: int | None = None,
        expire_time: float | None = None,
    ) -> int:
        """See Store."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                f"SELECT revision, expire_time FROM record WHERE {_NAMED}", (kind, room, key)
            ).fetchone()
            expired = row is not None and row[1] is not None and row[1] <= self._clock()
            current = 0 if row is None or expired else row[0]
            if expected_revision is not None and expected_revision != current:
                raise RevisionConflict(current)
            # An expired record counts as new: REPLACE gives it a new place in the order of creation.
            statement = (
                f"REPLACE {_INSERT}"
                if expired
                else f"INSERT {_INSERT} ON CONFLICT (kind, room, key) DO UPDATE SET {_UPDATE}"
            )
            self._last_revision += 1
            connection.execute(statement, (kind, room, key, self._last_revision, body, expire_time))
            return self._last_revision

        return await self._transactions.write(work)

    async def delete(self, kind: str, room: str, key: str) -> bool:
        """See Store."""

        def work(connection: sqlite3.Connection) -> bool:
            # One that has expired is left to the pruning: it does not exist, so the answer is False.
            cursor = connection.execute(
                f"DELETE FROM record WHERE {_NAMED} AND {_LIVE}", (kind, room, key, self._clock())
            )
            return cursor.rowcount > 0

        return await self._transactions.write(work)

    async def check(self) -> None:
        """See Store."""
        # The transaction keeps the revision counter, so that this goes through to the disk.
        await self._transactions.write(lambda connection: None)

    async def aclose(self) -> None:
        """See Store."""
        await self._transactions.aclose()

    # From here on: on the thread of the transactions.

    def _prepare(self, connection: sqlite3.Connection) -> None:
        migrate(connection, str(self._path))
        (self._last_revision,) = connection.execute("SELECT last FROM revision").fetchone()
        # Nobody else holds the file: whoever had a lease is gone.
        connection.execute("DELETE FROM record WHERE kind = ?", (LEASES,))

    def _before_commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE revision SET last = ?", (self._last_revision,))
        self.journal.trim_numbers(connection)

    def _idle(self, connection: sqlite3.Connection) -> None:
        self._prune(connection)
        self.journal.trim(connection)

    def _prune(self, connection: sqlite3.Connection) -> None:
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + _PRUNE_INTERVAL_S
        cursor = connection.execute(
            "DELETE FROM record WHERE sequence IN (SELECT sequence FROM record WHERE expire_time <= ? LIMIT ?)",
            (self._clock(), _PRUNE_BATCH),
        )
        if cursor.rowcount == _PRUNE_BATCH:  # there is more: go on after the next round of work
            self._prune_at = 0.0
