"""What is particular to the SQLite backend: the file, its schema, its thread."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from tests.store.conftest import Clock
from track_server.store import schema, sqlite, sqlite_journal, transactions
from track_server.store.leases import Leases
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


async def _refusal(path: Path) -> str:
    with pytest.raises(StoreError) as refused:
        async with SqliteStore(path):
            pass
    return str(refused.value)


async def test_a_file_of_a_newer_schema_is_refused_with_what_to_do(path: Path) -> None:
    async with SqliteStore(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    text = await _refusal(path)
    assert "newer version" in text
    assert "schema 99" in text
    assert "TRACK_STORE" in text


async def test_another_programs_database_is_refused_and_left_as_it_was(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    assert "another program" in await _refusal(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


async def test_a_file_that_is_no_database_is_refused_with_what_to_do(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"not a database" * 100)
    assert "TRACK_STORE" in await _refusal(path)


async def test_a_folder_that_does_not_exist_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "TRACK_STORE" in await _refusal(tmp_path / "missing" / "store.sqlite3")


async def test_a_path_that_is_a_folder_is_refused_with_what_to_do(path: Path) -> None:
    await asyncio.to_thread(path.mkdir)
    assert "TRACK_STORE" in await _refusal(path)


async def test_a_file_that_another_server_holds_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(path):
        monkeypatch.setattr(transactions, "_LOCK_WAIT_S", 0.1)
        assert "in use by another server" in await _refusal(path)


async def test_a_server_that_replaces_another_waits_for_its_file(path: Path) -> None:
    first = SqliteStore(path)
    async with first:
        async with asyncio.TaskGroup() as group:
            second = SqliteStore(path)
            opening = group.create_task(second.__aenter__())
            await first.put("kind", "room", "key", b"")
            assert not opening.done()
            await first.aclose()
        assert await second.get("kind", "room", "key") is not None
        await second.aclose()


async def test_each_schema_version_is_brought_to_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(path) as store:
        await store.put("kind", "room", "key", b"old")
    step = ("ALTER TABLE record ADD COLUMN extra INTEGER",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    async with SqliteStore(path) as store:
        record = await store.get("kind", "room", "key")
        assert record is not None
        assert record.body == b"old"
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    connection.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(path):
        pass
    with monkeypatch.context() as patch:
        step = ("CREATE TABLE half (x)", "nonsense")
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
        await _refusal(path)
    async with SqliteStore(path) as store:
        await store.check()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    connection.close()


async def test_writes_that_wait_together_share_transactions(path: Path) -> None:
    async with SqliteStore(path) as store:
        commits = 0
        counted = sqlite.SqliteStore._before_commit

        def keep(self: SqliteStore, connection: sqlite3.Connection) -> None:
            nonlocal commits
            commits += 1
            counted(self, connection)

        store._transactions._before_commit = keep.__get__(store)
        await asyncio.gather(*(store.put("kind", "room", f"{n}", b"") for n in range(1000)))
        assert commits < 50


async def test_expired_records_leave_the_file_in_batches(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_PRUNE_BATCH", 10)
    async with SqliteStore(path, clock=clock) as store:
        await asyncio.gather(*(store.put("kind", "room", f"{n}", b"", expire_time=clock.now + 1) for n in range(25)))
        await store.put("kind", "room", "stays", b"")
        clock.now += 2
        store._prune_at = 0.0
        left = []
        for _ in range(4):
            await store.check()
            left.append(await store._transactions.read(_rows))
        assert left[-1] == 1
        assert all(before - after <= 20 for before, after in zip([26, *left], left, strict=False))


async def test_old_entries_leave_the_file_in_batches(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_journal, "_TRIM_BATCH", 10)
    async with SqliteStore(path, clock=clock) as store:
        store.journal.retain("kind", age_s=1, entries=1000)
        await asyncio.gather(*(store.journal.append("kind", f"{n % 3}", b"") for n in range(200)))
        clock.now += 2
        await store.journal.append("kind", "young", b"")
        store.journal._trim_at = 0.0
        left = [(201, 201)]
        async with asyncio.timeout(45):
            while left[-1] != (1, 1):
                await store.check()
                left.append(await store._transactions.read(_entries))
        # A batch after the check, one after the reading before it, and one that an earlier round was late with.
        assert all(before - after <= 30 for (before, _), (after, _) in pairwise(left))


def _entries(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many there are, and how many the journal thinks."""
    count = connection.execute("SELECT count(*) FROM journal").fetchone()[0]
    return count, connection.execute("SELECT entries FROM journal_size").fetchone()[0]


def _rows(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM record").fetchone()[0]
    return count


# Writes and says what was acknowledged, until it is killed.
_WRITER = """
import asyncio, sys
from pathlib import Path
from track_server.store.sqlite import SqliteStore

async def main():
    async with SqliteStore(Path(sys.argv[1])) as store:
        n = 0
        while True:
            await asyncio.gather(*(store.put("kind", "room", str(n + i), b"x" * 100) for i in range(20)))
            n += 20
            print(n, flush=True)

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(path), stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert process.stdout is not None
    acknowledged = 0
    async with asyncio.timeout(45):
        while acknowledged < 200:
            acknowledged = int(await process.stdout.readline())
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
    if lines := [line for line in rest.split(b"\n")[:-1] if line]:
        acknowledged = int(lines[-1])
    async with SqliteStore(path) as store:
        keys = {record.key for record in await store.list("kind")}
    assert keys >= {str(n) for n in range(acknowledged)}


# A limit on the size of files stands in for a full disk: the system refuses to write on.
_FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore

async def main():
    async with SqliteStore(Path(sys.argv[1])) as store:
        await store.put("kind", "room", "before", b"")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        outcomes = await asyncio.gather(
            *(store.put("kind", "room", str(n), b"x" * 50_000) for n in range(20)), return_exceptions=True
        )
        assert any(isinstance(outcome, StoreError) for outcome in outcomes), outcomes
        try:
            for n in range(20):
                await store.put("kind", "room", f"more {n}", b"x" * 50_000)
        except StoreError as error:
            print(error)
            assert store.journal.failing
        else:
            raise AssertionError("no failure")
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await store.check()
        assert not store.journal.failing
        kept = {record.key for record in await store.list("kind")}
        told = {str(n) for n, outcome in enumerate(outcomes) if isinstance(outcome, int)}
        assert kept >= told | {"before"}
        print("recovered")

asyncio.run(main())
"""


async def test_a_full_disk_fails_those_who_write_and_the_store_works_again_once_there_is_room(path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.endswith("recovered\n"), done.stderr
    assert "the store failed" in done.stdout


async def test_the_loop_goes_on_while_the_disk_works(path: Path) -> None:
    async with SqliteStore(path) as store:
        release = threading.Event()
        slow = asyncio.ensure_future(store._transactions.write(lambda connection: release.wait(20)))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not slow.done()
        release.set()
        assert await slow, "the loop stood still until the work gave up waiting for it"


async def test_a_server_that_opens_the_file_finds_no_lease_of_the_one_before(path: Path) -> None:
    # Nobody else can hold the file: whoever had a lease is gone.
    async with SqliteStore(path) as store:
        assert await Leases(store, "killed").take("room", "work", 60.0) is not None
    async with SqliteStore(path) as store:
        assert await Leases(store, "next").take("room", "work", 60.0) is not None
