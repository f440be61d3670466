"""The points of all rooms in the store: gathered for a minute, written together, read again by time."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from track.v1.quality_pb2 import ListQualityReportsResponse, QualityPoint
from track_server.lifetime import Closing, Tasks
from track_server.store.journal import Addition, Journal, RoomRetention
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

SHORT_S: Final = 5
LONG_S: Final = 60
WINDOWS: Final = (SHORT_S, LONG_S)
"""Spans of the points, in seconds."""

_AGES_S: Final = {SHORT_S: 3600.0, LONG_S: 86_400.0}

WRITE_S: Final = 60.0
"""So long points are gathered before they are written: what a crash loses at most."""

_CHUNK: Final = 500
"""Points of one entry at most."""
_WRITE: Final = 200
"""Entries of one write at most."""
_WAITING: Final = 200_000
"""Points that wait at most: beyond, the store has failed for long, and new ones are not kept."""
_READ: Final = 8
_MARK: Final = "points"
_ENDLESS: Final = 1_000_000
# Identities and SIDs repeat from point to point: a fifth is left, for 10 us a point.
_COMPRESSION: Final = 1

Key = tuple[str, int]
"""Room, and the span of its points."""


@dataclass(slots=True)
class _Pile:
    """The points of one room and span that are not in the store yet, oldest first, with their times in ns."""

    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    writing: list[tuple[int, bytes]] = field(default_factory=list)


class PointArchive(Closing):
    """Owner of what waits to be written, `async with`. ``room_bytes``: kept of the points of one room and span, and
    ``max_bytes`` of all rooms'."""

    def __init__(self, journal: Journal, *, room_bytes: int, max_bytes: int, write_s: float = WRITE_S) -> None:
        self._journal = journal
        self._write_s = write_s
        for window_s in WINDOWS:
            journal.retain(
                _kind(window_s),
                age_s=_AGES_S[window_s],
                max_bytes=max_bytes,
                of_room=RoomRetention(_ENDLESS, room_bytes),
            )
        self._piles: dict[Key, _Pile] = {}
        self._count = 0
        self._failing = False
        self._closing = asyncio.Event()
        self._turn = asyncio.Lock()
        self._tasks = Tasks()
        self._writer = self._tasks.begin(self._write_all(), name="quality history")

    async def aclose(self) -> None:
        """Writes what waits. May be called twice."""
        self._closing.set()
        await asyncio.wait([self._writer])
        await self._tasks.aclose()

    def add(self, room: str, window_s: int, points: Sequence[QualityPoint]) -> None:
        """Has points of one moment kept, in this order."""
        if not points:
            return
        if self._count + len(points) > _WAITING:
            self._fail("the store is too slow")
            return
        self._count += len(points)
        waiting = self._piles.setdefault((room, window_s), _Pile()).waiting
        for point in points:
            encoded = ListQualityReportsResponse(points=[point]).SerializeToString()
            waiting.append((point.time.ToNanoseconds(), encoded))

    @property
    def waiting(self) -> int:
        """Points that are not in the store yet."""
        return self._count

    async def after(self, room: str, window_s: int, since_s: float) -> AsyncGenerator[list[QualityPoint]]:
        """The points of the room from ``since_s`` (UTC) on, and a few before it, oldest first, some at a time; those
        that are not written yet last. A point may come twice. Raises StoreError."""
        pile = self._piles.get((room, window_s))
        recent = [*pile.writing, *pile.waiting] if pile is not None else []
        kind, sequence = _kind(window_s), 0
        if since_s >= 1:
            # All of an entry is older than its number and a second.
            found = await self._journal.find(kind, room, mark=_MARK, number=int(since_s) - 1)
            sequence = found.sequence if found is not None else 0
        while rows := await self._journal.after(kind, room, sequence=sequence, limit=_READ):
            for row in rows:
                sequence = row.sequence
                yield _decoded([zlib.decompress(row.body)])
        for begin in range(0, len(recent), _CHUNK):
            yield _decoded([encoded for _, encoded in recent[begin : begin + _CHUNK]])

    async def _write_all(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._write_s):
                    await self._closing.wait()
            await self.write()

    async def write(self) -> None:
        """Writes all that waits. What fails waits for the next time."""
        async with self._turn:
            await self._write()

    async def _write(self) -> None:
        for window_s in WINDOWS:
            piles = {key: pile for key, pile in self._piles.items() if key[1] == window_s}
            for pile in piles.values():
                pile.writing, pile.waiting = pile.waiting, []
            try:
                additions = await asyncio.to_thread(_additions, {key[0]: pile.writing for key, pile in piles.items()})
                for begin in range(0, len(additions), _WRITE):
                    await self._journal.append_all(_kind(window_s), additions[begin : begin + _WRITE])
            except StoreError as error:
                self._fail(str(error))
                for pile in piles.values():
                    pile.waiting = pile.writing + pile.waiting
            else:
                self._failing = False
                self._count -= sum(len(pile.writing) for pile in piles.values())
            for pile in piles.values():
                pile.writing = []
        self._piles = {key: pile for key, pile in self._piles.items() if pile.waiting}

    def _fail(self, reason: str) -> None:
        """Says, once, that points may be lost."""
        if not self._failing:
            self._failing = True
            log.warning("quality_history_not_kept", reason=reason)


def _kind(window_s: int) -> str:
    return f"quality_{window_s}s"


def _additions(piles: dict[str, list[tuple[int, bytes]]]) -> list[Addition]:
    """The entries to be written, of rooms and their points. On a thread."""
    additions = []
    for room, points in piles.items():
        for begin in range(0, len(points), _CHUNK):
            chunk = points[begin : begin + _CHUNK]
            body = zlib.compress(b"".join(encoded for _, encoded in chunk), _COMPRESSION)
            additions.append(Addition(room, body, _MARK, max(time_ns for time_ns, _ in chunk) // 1_000_000_000))
    return additions


def _decoded(encoded: Sequence[bytes]) -> list[QualityPoint]:
    return list(ListQualityReportsResponse.FromString(b"".join(encoded)).points)
