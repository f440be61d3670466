"""The writing end of the record."""

import asyncio
from typing import Final

import structlog
from google.protobuf import json_format

from track.v1.audit_pb2 import AuditEntry
from track_server.errors import StoreUnavailable
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

KIND: Final = "audit"
"""Of the journal."""
_CLOSE_S: Final = 5.0


class Recorder:
    """Appends entries to the record, and owns the appends that are on their way. `aclose` waits for them.

    ``written``, ``failed``: how many entries so far.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._appends: set[asyncio.Task[None]] = set()
        self.written = 0
        self.failed = 0

    async def require_writable(self) -> None:
        """Return where the next entry can be expected to be written; raises StoreUnavailable.

        Looks at how the store's last write ended. After a failure it tries another one, so that all is well again as
        soon as the store is.
        """
        if not self._store.journal.failing:
            return
        try:
            await self._store.check()
        except StoreError as error:
            raise StoreUnavailable("nothing can be changed now: the server's store cannot be written") from error

    def begin(self, entry: AuditEntry) -> "asyncio.Task[None]":
        """Begin appending the entry, whoever waits. The task ends, without an error, when it is durable.

        Where it cannot be appended, the entry goes to the log instead.
        """
        task = asyncio.create_task(self._append(entry), name="audit entry")
        self._appends.add(task)
        task.add_done_callback(self._appends.discard)
        return task

    async def write(self, entry: AuditEntry) -> None:
        """`begin`, and wait for it; who is cancelled meanwhile does not undo it."""
        await asyncio.shield(self.begin(entry))

    async def aclose(self) -> None:
        """Wait until all that was begun is durable, a few seconds at most. May be called twice."""
        if self._appends:
            _, late = await asyncio.wait(self._appends, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _append(self, entry: AuditEntry) -> None:
        try:
            await self._store.journal.append(KIND, entry.room, entry.SerializeToString())
        except asyncio.CancelledError:
            self._lost(entry, "the server was closed")
            raise
        except StoreError as error:
            self._lost(entry, str(error))
        else:
            self.written += 1

    def _lost(self, entry: AuditEntry, why: str) -> None:
        self.failed += 1
        # The last place where it can be kept. It carries no secrets: see `redaction`.
        log.error("audit_entry_not_written", entry=json_format.MessageToDict(entry), error=why)
