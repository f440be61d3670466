"""What a store keeps: records, each under a kind, a room and a key; and journals (see `journal`).

The body is bytes of the owner's choice (a serialised message). A record has a revision, which grows with every change
and is never used again for the same kind, room and key, also after it was deleted: a writer that read one revision can
make sure that nobody wrote since.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from track_server.store.journal import Journal


class StoreError(Exception):
    """The store cannot be used; the text is a sentence that says what to do."""


class RevisionConflict(Exception):
    """The record is not at the revision expected; ``current`` is the one it is at, 0 where it does not exist."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the record is at revision {current}")
        self.current = current


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``expire_time``: seconds since 1970 UTC from which on it is gone, or None: never."""

    kind: str
    room: str
    key: str
    revision: int
    body: bytes
    expire_time: float | None


class Store(Protocol):
    """Durable records. What was acknowledged is there after a crash. A record that has expired does not exist.

    A caller that is cancelled while it waits does not undo what it asked for. Every method raises StoreError once the
    store is closed or its medium fails.
    """

    @property
    def journal(self) -> Journal:
        """The journals, in the same medium: they live as long as the store is open."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def get(self, kind: str, room: str, key: str) -> Record | None:
        """The record, or None where it does not exist."""

    async def list(self, kind: str, room: str | None = None) -> list[Record]:
        """All records of the kind, of one room or (None) of all, in the order in which they were created."""

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
        """Create or replace the record, its ``expire_time`` included; returns its new revision, 1 or more.

        ``expected_revision``: the one it must be at, 0 where it must not exist; else RevisionConflict is raised.
        """

    async def delete(self, kind: str, room: str, key: str) -> bool:
        """Delete the record; returns whether it existed."""

    async def check(self) -> None:
        """Return once the store has proven that it can be written to; raises StoreError where it cannot."""

    async def aclose(self) -> None:
        """Finish what was asked for and let go of the medium. May be called twice."""
