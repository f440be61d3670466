"""The only way to LiveKit's UpdateSubscriptions: what is asked for one subscriber within 50 ms goes in one call."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from track.v1 import event_pb2
from track_server.deadline import Deadline
from track_server.errors import LiveKitUnavailable, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.rooms.subscriptions import Subscriptions

WINDOW_S: Final = 0.05
"""What comes within so long is asked together. A subscriber has one call a window at most: LiveKit's call either
subscribes or unsubscribes, so where both are to be done the subscribing waits for the next window."""
RECENT_S: Final = 3.0
"""LiveKit carries out what it was asked for within so long: until then it is not asked again."""
_RETRY_FIRST_S: Final = 0.1
_RETRY_LAST_S: Final = 2.0


Listener = Callable[[str, str, Collection[str], bool], None]
"""Told of the room, the subscriber's identity, the tracks' SIDs, and whether it was subscribed."""


@dataclass(eq=False, slots=True)
class _Request:
    """What one caller wants of one subscriber. ``left``: SIDs that LiveKit was not asked for yet; ``until``: on the
    loop's clock."""

    left: set[str]
    cause: event_pb2.EventCause
    until: float
    answered: asyncio.Future[int]
    attempts: int = 0


@dataclass(eq=False, slots=True)
class _Subscriber:
    """What is to be asked about one subscriber."""

    wanted: dict[str, bool] = field(default_factory=dict)
    """By SID: the newest word on each."""
    causes: dict[str, event_pb2.EventCause] = field(default_factory=dict)
    requests: list[_Request] = field(default_factory=list)
    failures: int = 0
    """In a row."""


class Asking(Closing):
    """Asks for subscriptions, `async with`. ``counted`` is told of each call to LiveKit: whether it subscribes, and of
    how many tracks."""

    def __init__(self, subscriptions: Subscriptions, counted: Callable[[bool, int], None]) -> None:
        self._subscriptions = subscriptions
        self._counted = counted
        self._subscribers: dict[tuple[str, str], _Subscriber] = {}
        self._listeners: list[Listener] = []
        self._recent: dict[tuple[str, str, str], tuple[bool, float]] = {}
        """What LiveKit took, and when, by room, identity and SID; the newest last."""
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Asks no more. May be called twice."""
        await self._tasks.aclose()

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of everything that LiveKit has taken. It must neither wait nor raise."""
        self._listeners.append(listener)

    async def ask(
        self,
        room: str,
        identity: str,
        sids: Iterable[str],
        *,
        subscribe: bool,
        cause: event_pb2.EventCause,
        deadline: Deadline,
    ) -> int:
        """Asks LiveKit to subscribe the participant to those tracks, or to unsubscribe it; returns how often it was
        asked, which is more than once where LiveKit was away.

        Returns once LiveKit has taken it, together with what others ask for the same subscriber. Of two who want the
        opposite of one track the later counts. Raises LiveKitUnavailable once the deadline is over, and what else
        LiveKit refuses. Who is cancelled while it waits may have it asked for all the same.
        """
        request = _Request(set(sids), cause, deadline.at, asyncio.get_running_loop().create_future())
        if not request.left:
            return 0
        key = (room, identity)
        known = self._subscribers.get(key)
        if known is None:
            known = _Subscriber()
            self._tasks.spawn(self._serve(room, identity, known), name=f"ask for {identity} in {room}")
            self._subscribers[key] = known
        known.requests.append(request)
        for sid in request.left:
            # What follows by rule from somebody's call does not take its place.
            if known.wanted.get(sid) is not subscribe or not cause.rule or known.causes[sid].rule:
                known.causes[sid] = cause
            known.wanted[sid] = subscribe
        return await request.answered

    async def _serve(self, room: str, identity: str, known: _Subscriber) -> None:
        """Until there is nothing to ask any more."""
        error: TrackError | None = None
        try:
            while known.wanted:
                await asyncio.sleep(_pause_s(known.failures))
                self._expire(known, error)
                flags = set(known.wanted.values())
                if not flags:
                    break
                # Who is to have less is served first: what it frees may be what the rest needs.
                subscribe = False not in flags
                error = await self._call(room, identity, known, subscribe=subscribe)
        finally:
            del self._subscribers[room, identity]
            for request in known.requests:
                request.answered.cancel()

    async def _call(self, room: str, identity: str, known: _Subscriber, *, subscribe: bool) -> TrackError | None:
        causes = {sid: known.causes[sid] for sid, wanted in known.wanted.items() if wanted is subscribe}
        asked = [request for request in known.requests if request.left & causes.keys()]
        for request in asked:
            request.attempts += 1
        self._counted(subscribe, len(causes))
        try:
            await self._subscriptions.update_each(room, identity, causes, subscribe=subscribe)
        except LiveKitUnavailable as error:
            known.failures += 1
            return error
        except TrackError as error:
            for request in asked:
                _fail(request, error)
            self._forget(known)
            return error
        known.failures = 0
        self._remember(room, identity, causes, subscribe=subscribe)
        for listener in self._listeners:
            listener(room, identity, causes.keys(), subscribe)
        done = set()
        for sid, cause in causes.items():
            # Meanwhile somebody may have wanted otherwise, or the same for another reason.
            if known.wanted.get(sid) is subscribe and known.causes.get(sid) is cause:
                del known.wanted[sid], known.causes[sid]
                done.add(sid)
        for request in asked:
            request.left -= causes.keys()
        for request in known.requests:
            # Also what came while LiveKit was being asked for the same.
            request.left -= done
            if not request.left and not request.answered.done():
                request.answered.set_result(max(1, request.attempts))
        self._forget(known)
        return None

    def lately(self, room: str, identity: str, track_sid: str) -> bool | None:
        """What LiveKit was asked for within RECENT_S, whether to subscribe or not; None: nothing."""
        subscribe, at = self._recent.get((room, identity, track_sid), (None, 0.0))
        return subscribe if time.monotonic() - at < RECENT_S else None

    def _remember(self, room: str, identity: str, sids: Iterable[str], *, subscribe: bool) -> None:
        now = time.monotonic()
        for place in list(takewhile(lambda place: now - self._recent[place][1] >= RECENT_S, self._recent)):
            del self._recent[place]
        for sid in sids:
            # As the newest.
            self._recent.pop((room, identity, sid), None)
            self._recent[room, identity, sid] = subscribe, now

    def _expire(self, known: _Subscriber, error: TrackError | None) -> None:
        """Answers those whose deadline is over, and drops what nobody waits for."""
        now = asyncio.get_running_loop().time()
        for request in known.requests:
            if request.until <= now and request.attempts:
                _fail(request, error or LiveKitUnavailable("LiveKit was not asked in time"))
        self._forget(known)

    def _forget(self, known: _Subscriber) -> None:
        known.requests = [request for request in known.requests if not request.answered.done()]
        left: set[str] = set().union(*(request.left for request in known.requests))
        for sid in known.wanted.keys() - left:
            del known.wanted[sid], known.causes[sid]


def _fail(request: _Request, error: TrackError) -> None:
    if not request.answered.done():
        request.answered.set_exception(error)


def _pause_s(failures: int) -> float:
    """The window, or how long LiveKit is left alone after so many failures in a row."""
    if not failures:
        return WINDOW_S
    longest = min(_RETRY_FIRST_S * 2.0 ** min(failures - 1, 10), _RETRY_LAST_S)
    return max(WINDOW_S, longest * random.uniform(0.5, 1.0))
