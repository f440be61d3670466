"""Asking LiveKit to record: what it says, what it says too late, and what it did while nobody listened."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from track.v1.egress_pb2 import EgressPart, TrackEgress
from track_server.durations import seconds_of
from track_server.egress.book import EgressBook
from track_server.egress.course import running
from track_server.errors import EgressInProgress, EgressUnavailable, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.egress import EgressApi, Found, Recording
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

UNAVAILABLE: Final = "the LiveKit cluster has no Egress service, or none that is free: none took the recording in time"

_GIVEN_UP: Final = "egress_given_up"
# That none is attached is believed for so long, and asked anew after.
_BELIEVED_S: Final = 2.0
# LiveKit looks for an Egress for 24 s; what was given up may begin within that, where its connection outlived us.
_LATE_S: Final = 40.0
_LOOKS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
# Clocks differ: what LiveKit knows from so long before it was asked is another recording.
_SKEW_S: Final = 60.0
_AT_ONCE: Final = 16


class Starts(Closing):
    """Starts LiveKit's recordings, `async with`. ``limit_s``: how long LiveKit may look for an Egress.

    LiveKit does not tell whether one is attached, and looks for it for 24 s. One that is attached applies within
    milliseconds, and its recording is in LiveKit's list before it is answered: what is not in the list after
    ``limit_s`` was taken by none. It is then given up; what begins all the same is stopped.
    """

    def __init__(self, api: EgressApi, book: EgressBook, store: Store, limit_s: float) -> None:
        self._api = api
        self._book = book
        self._store = store
        self._limit_s = limit_s
        self._unavailable_until = 0.0
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Stops looking for what was given up. May be called twice."""
        await self._tasks.aclose()

    async def restore(self) -> None:
        """Goes on looking for what an earlier run gave up."""
        for record in await self._store.list(_GIVEN_UP):
            with contextlib.suppress(DecodeError):
                self._watch_for(TrackEgress.FromString(record.body), record.key)

    async def check(self, room: str, place: str, sids: frozenset[str]) -> None:
        """Raises EgressUnavailable where that is known at once, and EgressInProgress where LiveKit already records the
        track to that place, though not for us."""
        if time.monotonic() < self._unavailable_until:
            raise EgressUnavailable(UNAVAILABLE)
        for found in await self._api.active(room):
            same = {found.part.track_sid, found.part.audio_track_sid} & sids
            if same and not self._book.known(found.livekit_egress_id) and place.endswith(f" {found.part.path}"):
                raise EgressInProgress(
                    "LiveKit already records the track to that place", metadata={"egress_id": found.livekit_egress_id}
                )

    async def start(self, recording: Recording, egress: TrackEgress) -> Found:
        """Has the last part of ``egress`` recorded, which is stored.

        Raises EgressUnavailable, LiveKitRefusal, LiveKitNotFound where it is not recorded, and LiveKitUnavailable where
        that is not known.
        """
        if time.monotonic() < self._unavailable_until:
            raise EgressUnavailable(UNAVAILABLE)
        async with self._at_once:
            task = asyncio.create_task(self._api.start(recording), name=f"start {egress.egress_id}")
            try:
                await asyncio.wait({task}, timeout=self._limit_s)
                if task.done():
                    return task.result()
                found = await self.find(egress)
                if task.done() and not task.cancelled() and task.exception() is None:
                    return task.result()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if found is not None:
            return found
        self._unavailable_until = time.monotonic() + _BELIEVED_S
        await self._give_up(egress)
        raise EgressUnavailable(UNAVAILABLE)

    async def find(self, egress: TrackEgress) -> Found | None:
        """LiveKit's recording of the last part, whose id is not known here; None where LiveKit has none."""
        part = egress.parts[-1]
        for found in await self._api.of_room(egress.room):
            if is_part(found, part) and not self._book.known(found.livekit_egress_id):
                return found
        return None

    async def _give_up(self, egress: TrackEgress) -> None:
        """Remembers it, so that it is stopped if it begins all the same, also after a restart of this server."""
        given_up = TrackEgress(egress_id=egress.egress_id, room=egress.room, parts=[egress.parts[-1]])
        key = f"{egress.egress_id}-{len(egress.parts)}"
        try:
            expire = time.time() + _LATE_S
            await self._store.put(_GIVEN_UP, egress.room, key, given_up.SerializeToString(), expire_time=expire)
        except StoreError as error:
            log.warning("egress_given_up_not_stored", egress_id=egress.egress_id, reason=str(error))
        self._watch_for(given_up, key)

    def _watch_for(self, egress: TrackEgress, key: str) -> None:
        self._tasks.spawn(self._stop_late(egress, key), name=f"late start of {egress.egress_id}")

    async def _stop_late(self, egress: TrackEgress, key: str) -> None:
        for pause in _LOOKS_S:
            await asyncio.sleep(pause)
            try:
                found = await self.find(egress)
                if found is not None and not asked_anew(egress, self._book.active()):
                    log.warning(
                        "egress_began_late", egress_id=egress.egress_id, livekit_egress_id=found.livekit_egress_id
                    )
                    await self._api.stop(found.livekit_egress_id)
                    break
            except TrackError as error:
                log.info("egress_given_up_not_looked_for", egress_id=egress.egress_id, reason=error.message)
        with contextlib.suppress(StoreError):
            await self._store.delete(_GIVEN_UP, egress.room, key)


def is_part(found: Found, part: EgressPart) -> bool:
    """Whether LiveKit's recording is that part: of the same tracks, to the same place, and not older. Pure."""
    asked_s = seconds_of(part.request_time)
    told = found.part
    return (
        _same(told, part)
        and (not found.updated_s or found.updated_s >= asked_s - _SKEW_S)
        and (not told.HasField("end_time") or seconds_of(told.end_time) >= asked_s - _SKEW_S)
    )


def asked_anew(given_up: TrackEgress, recordings: Iterable[TrackEgress]) -> bool:
    """Whether LiveKit is being asked once more for what was given up: what begins may be that one. Pure."""
    last = given_up.parts[-1]
    asked = (running(egress) for egress in recordings if egress.room == given_up.room)
    return any(part is not None and not part.livekit_egress_id and _same(part, last) for part in asked)


def _same(one: EgressPart, other: EgressPart) -> bool:
    """Of the same tracks, to the same path."""
    return (one.track_sid, one.audio_track_sid, one.path) == (other.track_sid, other.audio_track_sid, other.path)
