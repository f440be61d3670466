"""Files that are read again when they change, without a restart."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Self, TypeVar

import structlog

from track_server.lifetime import Closing, Tasks

log = structlog.get_logger(__name__)

# A change is read at the second look that sees it, half a second after it at the latest.
INTERVAL_S: Final = 0.2

_MAX_BYTES: Final = 1024 * 1024

T = TypeVar("T")

# Of each file: inode, size, and when contents and attributes changed, in ns; None where it cannot be looked at.
_Signature = tuple[tuple[int, ...] | None, ...]


class WatchedFiles(Closing, Generic[T]):
    """What stands in some files that belong together, kept up to date; `async with` owns the task that looks.

    ``read`` makes the value of the files; it may block, runs in a thread, and raises ValueError with a sentence where
    they are no good. ``take`` gets every new value, on the loop, and may refuse it in the same way. The first comes
    while the block is entered, and what it raises is raised there. Later, what is no good is logged once, and what was
    taken before stays.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        read: Callable[[], T],
        take: Callable[[T], None],
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._name = name
        self._paths = tuple(paths)
        self._read = read
        self._take = take
        self._taken: _Signature = ()
        # What the first look saw that saw a change. The next one reads: by then a file that is being written is mostly
        # complete, and another change has another time stamp, however coarse the file system's clock is.
        self._seen: _Signature | None = None
        self._problem = ""
        self._interval_s = interval_s
        self._looking = asyncio.Lock()
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._taken, value = await asyncio.to_thread(self._first)
        self._take(value)
        self._tasks.spawn(self._run(), name=f"watch {self._name}")
        return self

    async def aclose(self) -> None:
        """Look no more. May be called twice."""
        await self._tasks.aclose()

    async def look(self) -> None:
        """Look once."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        changed = await asyncio.to_thread(self._changed)
        if changed is None:
            return
        try:
            self._take(await asyncio.to_thread(self._read))
        except ValueError as error:
            self._complain(str(error))
        except Exception as error:
            # A fault of ours; the task must live on, or no later change would be seen.
            log.exception("file_not_taken", files=self._name)
            self._problem = repr(error)
        else:
            self._problem = ""

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    def _first(self) -> tuple[_Signature, T]:
        signature = self._signature()
        return signature, self._read()

    def _changed(self) -> _Signature | None:
        """What the files look like, where they are to be read now."""
        now = self._signature()
        if self._seen is None:
            self._seen = now if now != self._taken else None
            return None
        if now == self._seen:
            self._taken, self._seen = now, None
        else:
            # Still being written: read what there is, and look again.
            self._seen = now
        return now

    def _signature(self) -> _Signature:
        return tuple(_of(path) for path in self._paths)

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            log.error("file_refused", files=self._name, problem=problem, kept="what was taken before")
        self._problem = problem


def _of(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Contents:
    """A file as it was read."""

    path: Path
    raw: bytes = field(repr=False)
    mode: int
    """Its permissions, as `stat` has them."""

    def text(self) -> str:
        """The contents as UTF-8; raises ValueError as a sentence."""
        try:
            return self.raw.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is no text in UTF-8") from error


def read_file(path: Path) -> Contents:
    """Reads the file; raises ValueError as a sentence where it cannot, or where it is beyond 1 MiB. Blocks."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_BYTES} bytes")
    return Contents(path, raw, mode)
