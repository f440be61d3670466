"""The schema of the SQLite store: an ordered list of migrations; the file's `PRAGMA user_version` counts those done."""

import sqlite3
from typing import Final

from track_server.store.records import StoreError

# "TRKS": marks the file as ours, so that we never migrate another program's database.
APPLICATION_ID: Final = 0x54524B53

# Only ever appended to: each brings a file from the version before to its own number, counted from 1.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # AUTOINCREMENT: a sequence number is never given twice, so it orders records by their creation.
        """
        CREATE TABLE record (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            room TEXT NOT NULL,
            key TEXT NOT NULL,
            revision INTEGER NOT NULL,
            body BLOB NOT NULL,
            expire_time REAL,
            UNIQUE (kind, room, key)
        ) STRICT
        """,
        "CREATE INDEX record_expiry ON record (expire_time) WHERE expire_time IS NOT NULL",
        # The last revision given to any record: one that is deleted and made again must not repeat one.
        "CREATE TABLE revision (last INTEGER NOT NULL) STRICT",
        "INSERT INTO revision VALUES (0)",
    ),
    (
        """
        CREATE TABLE journal (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            room TEXT NOT NULL,
            time REAL NOT NULL,
            body BLOB NOT NULL
        ) STRICT
        """,
        # Each ends with the sequence, as every index of SQLite's does: read from either end, of all rooms or of one.
        "CREATE INDEX journal_kind ON journal (kind)",
        "CREATE INDEX journal_room ON journal (kind, room)",
        # How many there are: counting a million entries takes too long to be done at every append.
        "CREATE TABLE journal_size (kind TEXT PRIMARY KEY, entries INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        """
        CREATE TRIGGER journal_appended AFTER INSERT ON journal BEGIN
            INSERT INTO journal_size VALUES (new.kind, 1) ON CONFLICT (kind) DO UPDATE SET entries = entries + 1;
        END
        """,
        """
        CREATE TRIGGER journal_trimmed AFTER DELETE ON journal BEGIN
            UPDATE journal_size SET entries = entries - 1 WHERE kind = old.kind;
        END
        """,
    ),
    (
        "ALTER TABLE journal ADD COLUMN mark TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE journal ADD COLUMN number INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX journal_mark ON journal (kind, room, mark, number) WHERE mark <> ''",
        # Of those with a mark, as of each room below.
        "ALTER TABLE journal_size ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0",
        """
        CREATE TABLE journal_of_room (
            kind TEXT NOT NULL,
            room TEXT NOT NULL,
            entries INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            PRIMARY KEY (kind, room)
        ) STRICT, WITHOUT ROWID
        """,
        "DROP TRIGGER journal_appended",
        "DROP TRIGGER journal_trimmed",
        """
        CREATE TRIGGER journal_appended AFTER INSERT ON journal WHEN new.mark = '' BEGIN
            INSERT INTO journal_size (kind, entries) VALUES (new.kind, 1)
                ON CONFLICT (kind) DO UPDATE SET entries = entries + 1;
        END
        """,
        """
        CREATE TRIGGER journal_trimmed AFTER DELETE ON journal WHEN old.mark = '' BEGIN
            UPDATE journal_size SET entries = entries - 1 WHERE kind = old.kind;
        END
        """,
        """
        CREATE TRIGGER journal_marked AFTER INSERT ON journal WHEN new.mark <> '' BEGIN
            INSERT INTO journal_size (kind, entries, bytes) VALUES (new.kind, 1, length(new.body))
                ON CONFLICT (kind) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
            INSERT INTO journal_of_room VALUES (new.kind, new.room, 1, length(new.body))
                ON CONFLICT (kind, room) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
        END
        """,
        """
        CREATE TRIGGER journal_unmarked AFTER DELETE ON journal WHEN old.mark <> '' BEGIN
            UPDATE journal_size SET entries = entries - 1, bytes = bytes - length(old.body) WHERE kind = old.kind;
            UPDATE journal_of_room SET entries = entries - 1, bytes = bytes - length(old.body)
                WHERE kind = old.kind AND room = old.room;
            DELETE FROM journal_of_room WHERE kind = old.kind AND room = old.room AND entries = 0;
        END
        """,
    ),
)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to the newest schema, each step in one transaction. The connection is in autocommit mode.

    Raises StoreError where the file is another program's or of a newer version of this one.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (version or objects):
        raise StoreError(f"{path} is a database of another program: set TRACK_STORE to another file.")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer version of this server (schema {version}, not {len(MIGRATIONS)}):"
            " run that version, or set TRACK_STORE to another file."
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            # In the header, so both are part of the transaction.
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
