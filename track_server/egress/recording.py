"""One recording, carried from its start to its end."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from track.v1.egress_pb2 import EgressEndCause, EgressPart, TrackEgress
from track.v1.event_pb2 import EventCause
from track_server.durations import seconds_of
from track_server.egress import course, parts
from track_server.egress.book import EgressBook
from track_server.egress.course import Begin, Finish, Halt, Look, Rest, Retry
from track_server.egress.scene import FindPublication, scene_of
from track_server.egress.starts import Starts
from track_server.egress.timeline import Timelines
from track_server.errors import LiveKitUnavailable, RoomNotFound, TrackError, TrackNotFound
from track_server.livekit.egress import EgressApi
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

# What cannot be done because LiveKit or the store is away is tried again after so long.
_AGAIN_S: Final = 2.0
_BROKEN_S: Final = 30.0
# A part whose answer is lost is not in LiveKit's list after so long: it was never taken.
_UNANSWERED_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Means:
    """What recordings are made with. ``follow``: is told of a part to follow."""

    rooms: Rooms
    api: EgressApi
    book: EgressBook
    starts: Starts
    timelines: Timelines
    find_publication: FindPublication
    follow: Callable[[], None]


class RecordingCourse:
    """Drives one recording. ``run`` returns when it has ended, or was never begun."""

    def __init__(self, means: Means, egress_id: str, cause: EventCause | None) -> None:
        self._means = means
        self._egress_id = egress_id
        self._cause = cause
        self._wake = asyncio.Event()
        self._live: LiveRoom | None = None
        self._closed = False
        self._tries = 0
        self._part_over: float | None = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once LiveKit has taken the first part. Fails with what hindered it, and then nothing is left of the
        recording; cancelled where it came to none, and by who waits for it no more."""

    def kick(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    async def stop(self, cause: "EgressEndCause.ValueType", by: EventCause | None) -> None:
        """Has it end. Raises StoreError."""
        egress = self._current()
        if egress is None or course.ended(egress) or egress.end_cause:
            return
        self._cause = by
        await self._means.book.save(parts.told_to_end(egress, cause), by)
        self.kick()

    async def run(self) -> None:
        """To its end."""
        try:
            while self._on():
                try:
                    if self._closed:
                        await self._drive()
                    else:
                        async with self._means.rooms.watch(self._room) as live:
                            await self._drive_in(live)
                except RoomNotFound:
                    self._closed = True
                except (TrackError, StoreError) as error:
                    log.warning("egress_hindered", egress_id=self._egress_id, reason=str(error))
                    await self._pause(_AGAIN_S)
                except Exception:
                    # It records all the same, and must not be left alone.
                    log.exception("egress_course_broke", egress_id=self._egress_id)
                    await self._pause(_BROKEN_S)
        finally:
            self.begun.cancel()
            await self._means.timelines.close(self._egress_id)

    @property
    def _room(self) -> str:
        egress = self._current()
        return egress.room if egress is not None else ""

    def _current(self) -> TrackEgress | None:
        return self._means.book.get(self._egress_id)

    def _on(self) -> bool:
        egress = self._current()
        return egress is not None and not course.ended(egress)

    async def _drive_in(self, live: LiveRoom) -> None:
        self._live = live
        closing = asyncio.create_task(self._note_closing(live), name=f"closing of {live.name}")
        sampling = asyncio.create_task(self._means.timelines.sample(self._egress_id, live), name="quality timeline")
        try:
            await self._drive()
        finally:
            for task in (closing, sampling):
                task.cancel()
            await asyncio.gather(closing, sampling, return_exceptions=True)
            self._live = None

    async def _note_closing(self, live: LiveRoom) -> None:
        await live.wait_closed()
        self._closed = True
        self.kick()

    async def _drive(self) -> None:
        """Step by step, until it has ended."""
        while (egress := self._current()) is not None and not course.ended(egress):
            self._wake.clear()
            await self._step(egress)

    async def _step(self, egress: TrackEgress) -> None:
        if (noted := await self._means.timelines.written_beside(egress)) is not None:
            await self._means.book.take(noted)
            return
        if course.running(egress) is not None or not egress.parts:
            self._part_over = None
        elif self._part_over is None:
            self._part_over = time.monotonic()
        over_s = time.monotonic() - self._part_over if self._part_over is not None else 0.0
        if self._live is not None and not self._closed and not self._live.current and not egress.end_cause:
            # Nobody knows what is in the room: what LiveKit tells next decides.
            await self._rest(1.0)
            return
        tracks = None if self._closed or self._live is None else self._live.model.tracks
        scene = scene_of(egress, tracks, self._means.find_publication)
        match course.next_step(egress, scene, time.time(), over_s):
            case Begin(track_sid, audio_sid):
                await self._begin(egress, track_sid, audio_sid)
            case Look():
                await self._look(egress)
            case Halt(cause):
                await self._halt(egress, cause)
            case Finish(cause):
                await self._finish(egress, cause)
            case Retry(seconds):
                problem = course.failure_of(egress.parts[-1])
                await self._means.book.take(parts.to_be_tried(egress, problem, seconds))
            case Rest(seconds):
                if course.running(egress) is None and seconds is None:
                    await self._wait_for_track(egress)
                await self._rest(seconds)

    async def _pause(self, seconds: float) -> None:
        """`_rest`, whatever changed until now."""
        self._wake.clear()
        await self._rest(seconds)

    async def _rest(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _wait_for_track(self, egress: TrackEgress) -> None:
        if egress.state != course.WAITING:
            waiting = parts.copy_of(egress)
            waiting.state = course.WAITING
            await self._means.book.take(waiting)

    # Beginning a part.

    async def _begin(self, egress: TrackEgress, track_sid: str, audio_sid: str) -> None:
        assert self._live is not None
        try:
            output = self._means.book.whole_output(egress.egress_id) or egress.output
            asked, recording = parts.with_next(egress, output, self._live, track_sid, audio_sid)
            await self._means.book.save(asked, self._cause)
            found = await self._means.starts.start(recording, asked)
        except LiveKitUnavailable as error:
            # It may have been taken: the next step looks.
            log.info("egress_start_unanswered", egress_id=self._egress_id, reason=error.message)
            await self._pause(_AGAIN_S)
            return
        except TrackError as error:
            await self._not_begun(error)
            return
        await self._taken(found.part)

    async def _taken(self, told: EgressPart) -> None:
        """LiveKit records the last part."""
        egress = self._current()
        if egress is None:
            return
        await self._means.book.take(parts.taken(egress, told), self._cause)
        self._tries = 0
        if not self.begun.done():
            self.begun.set_result(None)
        self._cause = None
        self._means.follow()

    async def _not_begun(self, error: TrackError) -> None:
        """LiveKit does not record the last part."""
        egress = self._current()
        if egress is None:
            return
        without = parts.without_untaken(egress)
        if egress.end_cause:
            # It was told to stop meanwhile.
            await self._means.book.take(without)
            return
        if not course.may_retry(without):
            if not self.begun.done() and not without.parts and not without.rule_name:
                await self._withdraw(_failed(without, error), error)
                return
            await self._means.book.take(_failed(without, error), self._cause)
            return
        self._tries += 1
        waiting = parts.to_be_tried(without, error.problem(), course.pause_s(self._tries))
        await self._means.book.take(waiting, self._cause)

    async def _withdraw(self, egress: TrackEgress, error: TrackError) -> None:
        """Its caller is told, and nothing is left of it. ``egress``: over. Raises StoreError."""
        self.begun.set_exception(error)
        # Nobody may listen.
        self.begun.exception()
        await self._means.book.forget(egress, self._cause)

    async def _look(self, egress: TrackEgress) -> None:
        """LiveKit's answer is not known: it crossed with the end of an earlier run, or of the connection."""
        found = await self._means.starts.find(egress)
        if found is not None:
            await self._taken(found.part)
            return
        left = _UNANSWERED_S - (time.time() - seconds_of(egress.parts[-1].request_time))
        if left > 0:
            await self._rest(min(left, 1.0))
            return
        await self._means.book.take(parts.without_untaken(egress))

    # Ending.

    async def _halt(self, egress: TrackEgress, cause: "EgressEndCause.ValueType | None") -> None:
        """Has the running part ended; the follower sees when it is."""
        part = course.running(egress)
        assert part is not None
        if cause is not None and not egress.end_cause:
            await self._means.book.take(parts.told_to_end(egress, cause))
        self._wake.clear()
        pause = 30.0
        try:
            await self._means.api.stop(part.livekit_egress_id)
        except TrackError as error:
            log.info("egress_not_stopped", egress_id=self._egress_id, reason=error.message)
            pause = _AGAIN_S
        self._means.follow()
        await self._rest_while(part.livekit_egress_id, pause)

    async def _rest_while(self, livekit_egress_id: str, seconds: float) -> None:
        """Until that part is over, or so long."""

        def over() -> bool:
            egress = self._current()
            part = course.running(egress) if egress is not None else None
            return part is None or part.livekit_egress_id != livekit_egress_id

        await self._means.book.until(over, seconds)

    async def _finish(self, egress: TrackEgress, cause: "EgressEndCause.ValueType") -> None:
        finished = course.finished(egress, cause, now())
        gone_early = cause in (course.ROOM_CLOSED, course.TRACK_ENDED) and not egress.parts and not egress.rule_name
        if gone_early and not self.begun.done():
            gone = "the room was closed meanwhile" if cause == course.ROOM_CLOSED else "the track ended meanwhile"
            await self._withdraw(finished, TrackNotFound(gone))
            return
        await self._means.book.take(finished, self._cause)


def _failed(egress: TrackEgress, error: TrackError) -> TrackEgress:
    failed = course.finished(egress, course.BROKE, now())
    failed.problem.CopyFrom(error.problem())
    return failed
