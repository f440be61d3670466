"""A SQLite file and the one thread that works on it, with group commit.

Whatever is queued when the thread comes round is written in one transaction: the sync to disk, by far the dearest
part, is shared by all who wait. A waiter is answered after the commit, so what it was told is on the disk.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

# Most items of one transaction: bounds how long the first of them waits.
_BATCH: Final = 500
# How often the thread wakes up without work, to look after the file.
_IDLE_S: Final = 30.0
# A server that is being replaced may hold the file for a moment longer.
_LOCK_WAIT_S: Final = 5.0

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]


class Transactions:
    """Runs work on the connection, on a thread of its own. `open` starts it, `aclose` ends it.

    ``prepare`` runs once after the file was opened, outside of transactions. ``before_commit`` runs at the end of each
    writing transaction. ``idle`` runs outside of transactions, after work and every now and then.
    """

    def __init__(self, path: Path, *, prepare: Work[None], before_commit: Work[None], idle: Work[None]) -> None:
        self._path = path
        self._prepare = prepare
        self._before_commit = before_commit
        self._idle = idle
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.failing = False
        """Whether the last writing transaction failed as a whole."""

    async def open(self) -> None:
        """Open the file, made where it does not exist. Raises StoreError where it cannot be used."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="store", daemon=True)
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Finish what is queued and close the file. May be called twice."""
        if not self._closed:
            self._closed = True
            self._items.put(None)
        if (thread := self._thread) is not None:
            await asyncio.to_thread(thread.join)
            self._thread = None

    async def read(self, work: Work[_T]) -> _T:
        """Run work that only reads; it sees what is committed."""
        result: _T = await self._ask(work, writes=False)
        return result

    async def write(self, work: Work[_T]) -> _T:
        """Run work that executes one writing statement at most, so that SQLite undoes it alone where it fails."""
        result: _T = await self._ask(work, writes=True)
        return result

    async def _ask(self, work: Work[Any], *, writes: bool) -> Any:
        if self._closed or self._loop is None:
            raise StoreError("the store is closed")
        item = _Item(work, writes, self._loop.create_future())
        self._items.put(item)
        return await item.future

    # From here on: on the thread.

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            lock = _lock(self._path)
            try:
                connection = self._connect()
            except BaseException:
                os.close(lock)
                raise
        except Exception as error:  # noqa: BLE001  it is raised to whoever opens
            self._call(_settle, [(opened, None, _sentence(error, self._path))])
            return
        try:
            self._call(_settle, [(opened, None, None)])
            while self._round(connection):
                pass
        finally:
            connection.close()
            os.close(lock)

    def _connect(self) -> sqlite3.Connection:
        # It has secrets in it: keys of ingresses, URLs that are signed.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, cached_statements=32)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._prepare(connection)
            connection.execute("BEGIN IMMEDIATE")  # proves that the file can be written to
            self._before_commit(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _round(self, connection: sqlite3.Connection) -> bool:
        """Do what is queued; returns whether to go on."""
        batch: list[_Item] = []
        more = True
        try:
            entry = self._items.get(timeout=_IDLE_S)
            while entry is not None:
                batch.append(entry)
                if len(batch) >= _BATCH:
                    break
                entry = self._items.get_nowait()
            else:
                more = False
        except queue.Empty:
            pass
        # Reads go first: they see only what is committed, and do not wait for the disk.
        for writes in (False, True):
            items = [item for item in batch if item.writes is writes]
            if writes and items:
                self._transact(connection, items)
            else:
                for item in items:
                    item.do(connection)
            if items:
                self._call(_settle, [(item.future, item.result, item.error) for item in items])
        try:
            self._idle(connection)
        except sqlite3.Error as error:
            log.warning("store_idle_work_failed", error=str(error))
        return more

    def _transact(self, connection: sqlite3.Connection, items: "list[_Item]") -> None:
        """Do all items in one transaction; where it fails as a whole, that becomes the error of each."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for item in items:
                item.do(connection)
                # A disk that is full or fails makes SQLite roll back everything, the neighbours' work too.
                if not connection.in_transaction:
                    raise item.error or StoreError("the transaction was rolled back")
            self._before_commit(connection)
            connection.execute("COMMIT")
            self.failing = False
        except Exception as error:  # noqa: BLE001  it is raised to whoever waits
            self.failing = True
            for item in items:
                item.error = _sentence(error)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed, so nobody waits any more
            log.debug("store_loop_closed")


@dataclass(slots=True)
class _Item:
    """One piece of work, and who waits for it."""

    work: Work[Any]
    writes: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def do(self, connection: sqlite3.Connection) -> None:
        try:
            self.result = self.work(connection)
        except Exception as error:  # noqa: BLE001  it is raised to whoever waits
            self.error = _sentence(error)


def _settle(outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, result, error in outcomes:
        if future.done():  # the waiter was cancelled
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _lock(path: Path) -> int:
    """Hold the file against other processes, until the descriptor is closed. Raises StoreError."""
    # A file of its own: closing any descriptor of the database itself would drop SQLite's own locks.
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise StoreError(
                    f"{path} is in use by another server: stop that one, or set TRACK_STORE to another file."
                ) from None
            time.sleep(0.05)
        else:
            return descriptor


def _sentence(error: BaseException, path: Path | None = None) -> BaseException:
    """What SQLite or the system says as a StoreError, with what to do where ``path`` cannot be opened."""
    if not isinstance(error, (sqlite3.Error, OSError)):
        return error
    if path is None:
        wrapped = StoreError(f"the store failed: {error}")
    else:
        wrapped = StoreError(
            f"{path} cannot be used as the store ({error}): set TRACK_STORE to a file in a folder that can be written."
        )
    wrapped.__cause__ = error
    return wrapped
