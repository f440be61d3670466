"""RestartTrack: tracks that are stuck are begun anew, as mildly as can be."""

import asyncio
import contextlib
from typing import Final, Self

import structlog

from track.v1 import event_pb2, publication_pb2
from track.v1 import publication_update_pb2 as pb
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.deadline import Deadline
from track_server.errors import (
    DeadlineTooShort,
    PublicationEnded,
    PublicationNotFound,
    RestartInProgress,
    TrackError,
)
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.publishing.progress import has_sid
from track_server.publishing.publishing import MIN_TIME_S
from track_server.publishing.questions import ending, ending_track
from track_server.publishing.restarting.course import Course, Quality, Runner, cooled_down, now_s
from track_server.publishing.restarting.levels import DEFAULT, Restartable, levels_of
from track_server.publishing.restarting.resubscribing import Resubscribing
from track_server.publishing.restarting.steps import Steps, Subject
from track_server.publishing.restarting.turns import Turns
from track_server.rooms.reading import find_track, look
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

_STARTING_S: Final = 1.0
"""When to try again while a publication is being brought to the room."""


class Restarts(Closing):
    """Answers RestartTrack, `async with`. ``cooldown_s``: see Turns."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        book: Book,
        access: Access,
        quality: Quality,
        steps: Steps,
        resubscribing: Resubscribing,
        *,
        cooldown_s: float,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._book = book
        self._access = access
        self._runner = Runner(steps, quality)
        self._resubscribing = resubscribing
        self._turns = Turns(cooldown_s)
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._restore(), name="restore resubscriptions")
        return self

    async def aclose(self) -> None:
        """Lets go of what is under way. May be called twice."""
        await self._tasks.aclose()

    async def restart(
        self, principal: Principal, request: pb.RestartTrackRequest, deadline: Deadline, cause: event_pb2.EventCause
    ) -> pb.RestartTrackResponse:
        """Restarts, and waits for the effect. A level that was begun is carried through after the deadline, and if the
        call is cancelled. ``cause``: the call, to those who watch.

        Raises RoomNotFound, PermissionDenied, PublicationNotFound, TrackNotFound, PublicationEnded, RestartInProgress,
        InvalidOptions, DeadlineTooShort, and NotSupported where the ``level`` does not apply or nobody knows whom it
        concerns.
        """
        if deadline.remaining_s() < MIN_TIME_S:
            raise DeadlineTooShort("the deadline leaves no time to restart anything")
        async with self._rooms.watch(request.room) as live:
            subject = await self._find(principal, request, live, cause)
            publication = subject.publication
            levels = levels_of(_restartable(subject), request.level, graceful=request.graceful)
            key = subject.publication_id or subject.track_sid
            self._turns.require(key, now_s())
            if publication is not None and publication.state != LIVE:
                raise RestartInProgress("the publication is being brought to the room", retry_delay_s=_STARTING_S)
            if request.validate_only:
                steps = [pb.RestartStep(level=level) for level in levels]
                return pb.RestartTrackResponse(publication=publication, steps=steps)
            course = Course(subject, levels, explicit=request.level != DEFAULT)
            self._turns.begin(key, now_s())
            task = self._tasks.begin(self._run(course, key, deadline), name=f"restart {key}")
            await asyncio.wait([task], timeout=deadline.remaining_s())
            if task.done() and not task.cancelled():
                task.result()
            if course.refused is not None:
                raise course.refused
            return self._runner.answer(course)

    async def _find(
        self, principal: Principal, request: pb.RestartTrackRequest, live: LiveRoom, cause: event_pb2.EventCause
    ) -> Subject:
        """The publication or track, of somebody who may restart it. A denial does not tell whether it is there."""
        if request.publication_id:
            known = self._book.find(live.name, request.publication_id)
            await self._access.require(principal, ending(live.name, known))
            if known is None:
                raise PublicationNotFound(
                    f"no publication {request.publication_id!r} in the room", field="publication_id"
                )
            if known.state == ENDED:
                raise PublicationEnded("the publication has ended", field="publication_id")
            return Subject(live, known, known.track_sid, known.type, request.graceful, cause)
        active = [found for found in self._book.of_room(live.name) if found.state != ENDED]
        known = next((found for found in active if request.track_sid in lifecycle.there(found)), None)
        track = live.model.tracks.get(request.track_sid)
        if known is None and track is None:
            # It may have been published a moment ago.
            track = (await look(self._api, live.name)).tracks.get(request.track_sid)
        await self._access.require(principal, ending_track(live.name, track, known))
        if known is not None:
            return Subject(live, known, known.track_sid, known.type, request.graceful, cause)
        track = find_track({track.sid: track} if track is not None else {}, request.track_sid, "track_sid")
        return Subject(live, None, track.sid, track.type, request.graceful, cause)

    async def _run(self, course: Course, key: str, deadline: Deadline) -> None:
        cooldown_s = self._turns.cooldown_s
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._rooms.watch(course.subject.live.name))
                await self._runner.run(course, deadline)
            finally:
                # Its quality is measured later: that may take a while.
                self._turns.end(key, now_s(), begun=course.refused is None)
                cooled_down(course.answer, cooldown_s)
            await self._runner.measure_after(course, deadline)

    async def _restore(self) -> None:
        try:
            await self._resubscribing.restore()
        except TrackError as error:
            log.warning("not_resubscribed", reason=error.message)


def _restartable(subject: Subject) -> Restartable:
    publication = subject.publication
    if publication is None:
        return Restartable(subject.type, publication_pb2.PUBLICATION_ROUTE_UNSPECIFIED)
    return Restartable(publication.type, publication.route, messages=not has_sid(publication))
