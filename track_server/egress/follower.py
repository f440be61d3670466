"""Following what LiveKit tells of recordings that run: by asking, sooner where a webhook hints at news."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Final, Self

import structlog

from track.v1.egress_pb2 import EgressPart, TrackEgress
from track_server.egress import course
from track_server.egress.book import EgressBook
from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.egress import EgressApi, Found

log = structlog.get_logger(__name__)

_FIRST_S: Final = 0.25
_LONGEST_S: Final = 10.0
_SLOWER: Final = 1.5
# Rooms up to which LiveKit is asked room by room, which costs it less than listing all recordings of a day.
_ROOMS: Final = 3
_GONE: Final = "no Egress answers for the recording any more"
_UNKNOWN: Final = "LiveKit knows the recording no more"


class Follower(Closing):
    """Asks LiveKit for all recordings that run in one call: soon after a change, then ever less often; `async with`.

    An Egress that dies says nothing, and LiveKit goes on calling its recordings active. One that has no participant in
    the room and answers no question for ``silence_s`` seconds, asked twice at least, is taken as gone.
    """

    def __init__(self, api: EgressApi, book: EgressBook, silence_s: float) -> None:
        self._api = api
        self._book = book
        self._silence_s = silence_s
        self._longest_s = min(_LONGEST_S, silence_s / 2)
        self._pause_s = _FIRST_S
        self._wake = asyncio.Event()
        self._seen: dict[str, float] = {}
        """When there was a sign of life, by LiveKit's id; monotonic."""
        self._suspected: set[str] = set()
        self._asking: set[str] = set()
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._run(), name="follow recordings")
        return self

    async def aclose(self) -> None:
        """Stops. May be called twice."""
        await self._tasks.aclose()

    def hint(self) -> None:
        """There may be news: asks at once, and often for a while."""
        self._pause_s = _FIRST_S
        self._wake.set()

    def _running(self) -> dict[str, TrackEgress]:
        """Recordings with a part that runs, by LiveKit's id of that."""
        parts = ((course.running(egress), egress) for egress in self._book.active())
        return {part.livekit_egress_id: egress for part, egress in parts if part is not None and part.livekit_egress_id}

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s if self._running() else None):
                    await self._wake.wait()
            self._wake.clear()
            self._pause_s = min(self._longest_s, self._pause_s * _SLOWER)
            try:
                await self._look()
            except TrackError as error:
                log.warning("recordings_not_followed", reason=error.message)
            except Exception:
                log.exception("recordings_not_followed")

    async def _look(self) -> None:
        running = self._running()
        if not running:
            self._seen.clear()
            return
        self._seen = {key: value for key, value in self._seen.items() if key in running}
        told = {found.livekit_egress_id: found for found in await self._active(running.values())}
        for livekit_id, egress in running.items():
            found = told.get(livekit_id) or await self._api.find(livekit_id)
            await self._heard(livekit_id, egress.egress_id, found)

    async def _active(self, recordings: Iterable[TrackEgress]) -> list[Found]:
        rooms = {egress.room for egress in recordings}
        asked = sorted(rooms) if len(rooms) <= _ROOMS else [""]
        return [found for room in asked for found in await self._api.active(room)]

    async def _heard(self, livekit_id: str, egress_id: str, found: Found | None) -> None:
        egress = self._book.get(egress_id)
        if egress is None:
            return
        if found is None:
            await self._lost(egress, livekit_id, _UNKNOWN)
            return
        after = course.with_part(egress, found.part)
        if after != egress:
            self._seen[livekit_id] = time.monotonic()
            self._pause_s = _FIRST_S
            await self._book.take(after)
            return
        quiet_s = time.monotonic() - self._seen.setdefault(livekit_id, time.monotonic())
        if quiet_s > self._silence_s / 2 and livekit_id not in self._asking:
            self._asking.add(livekit_id)
            self._tasks.spawn(self._ask(egress.room, livekit_id, egress_id), name=f"ask {livekit_id}")

    async def _ask(self, room: str, livekit_id: str, egress_id: str) -> None:
        """Asks for a sign of life."""
        try:
            alive = await self._api.answers(room, livekit_id)
            log.debug("egress_asked", livekit_egress_id=livekit_id, alive=alive)
            if alive:
                self._suspected.discard(livekit_id)
                self._seen[livekit_id] = time.monotonic()
                return
            first = livekit_id not in self._suspected
            self._suspected.add(livekit_id)
            if first or time.monotonic() - self._seen.get(livekit_id, time.monotonic()) < self._silence_s:
                return
            self._suspected.discard(livekit_id)
            egress = self._book.get(egress_id)
            if egress is not None:
                log.warning("egress_gone", egress_id=egress_id, livekit_egress_id=livekit_id)
                await self._lost(egress, livekit_id, _GONE)
                # Should it live after all, it must not go on unseen.
                with contextlib.suppress(TrackError):
                    await self._api.stop(livekit_id)
        except TrackError as error:
            log.info("egress_not_asked", livekit_egress_id=livekit_id, reason=error.message)
        finally:
            self._asking.discard(livekit_id)

    async def _lost(self, egress: TrackEgress, livekit_id: str, why: str) -> None:
        lost = EgressPart(livekit_egress_id=livekit_id, livekit_status="EGRESS_FAILED", error=why)
        await self._book.take(course.with_part(egress, lost))
