"""What is seen of subscriptions: in LiveKit's debug view, and by the companions in subscribers' clients."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import structlog
from google.protobuf import timestamp_pb2

from track.v1 import publication_pb2, track_pb2
from track.v1.subscription_pb2 import ObservedSubscription
from track_server.errors import LiveKitUnavailable
from track_server.lifetime import Closing, Tasks
from track_server.livekit.debug import DebugView, DownTrack
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms
from track_server.rooms.subscriptions import Subscriptions
from track_server.subscription.states.states import SubscriberStates

log = structlog.get_logger(__name__)

FRESH_S: Final = 20.0
"""A look at the debug view tells how it is for so long: large rooms are looked at less often than once a second."""

Pair = tuple[str, str]
"""Identity of a subscriber, and a track's SID."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """One look at a room. ``copies``: what is sent to whom; ``at_s``: of the monotonic clock."""

    copies: dict[Pair, DownTrack]
    time: timestamp_pb2.Timestamp
    at_s: float


class Received(Closing):
    """What is seen, `async with`. Reads never wait. ``debug``: None where the debug view is not on."""

    def __init__(
        self, rooms: Rooms, subscriptions: Subscriptions, debug: DebugView | None, states: SubscriberStates
    ) -> None:
        self._rooms = rooms
        self._subscriptions = subscriptions
        self._debug = debug
        self._states = states
        self._sights: WeakKeyDictionary[LiveRoom, _Sight] = WeakKeyDictionary()
        self._names: set[str] = set()
        self._next: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._tasks = Tasks()
        subscriptions.look_along(self._saw)

    async def aclose(self) -> None:
        """Looks no more. May be called twice."""
        await self._tasks.aclose()

    def of(self, room: str, identity: str, track_sid: str) -> ObservedSubscription | None:
        """What the subscriber has of the track, as last seen; None where nobody has seen it lately.

        The debug view's word goes before the companion's; sizes and rates are the companion's in any case.
        """
        live = self._rooms.find(room)
        sight = self._sights.get(live) if live is not None else None
        if sight is not None and time.monotonic() - sight.at_s > FRESH_S:
            sight = None
        told = self._states.received(room, identity).get(track_sid)
        if sight is None and told is None:
            return None
        seen = ObservedSubscription()
        if told is not None:
            seen.subscribed, seen.evidence = told.subscribed, publication_pb2.EVIDENCE_COMPANION
            if told.HasField("width") and told.HasField("height"):
                seen.width, seen.height = told.width, told.height
            if told.HasField("frames_per_second"):
                seen.frames_per_second = told.frames_per_second
            reported = self._states.reported_at(room, identity)
            if reported is not None:
                seen.measure_time.CopyFrom(reported)
        if sight is not None and live is not None:
            copy = sight.copies.get((identity, track_sid))
            seen.subscribed, seen.evidence = copy is not None, publication_pb2.EVIDENCE_DEBUG_VIEW
            seen.measure_time.CopyFrom(sight.time)
            if copy is not None and _layered(live, copy):
                seen.spatial_layer = copy.spatial_layer
        return seen

    def told_by_companion(self, room: str, identity: str, track_sid: str) -> bool:
        """Whether the companion in the subscriber's client tells of that track: it tells of video alone."""
        live = self._rooms.find(room)
        track = live.model.tracks.get(track_sid) if live is not None else None
        video = track is not None and track.type == track_pb2.TRACK_TYPE_VIDEO
        return video and bool(self._states.has_companion(room, identity))

    async def look(self, room: str, *, within_s: float = 0.0) -> bool:
        """Looks at the debug view now, once for all who ask meanwhile; says whether it could be seen.

        ``within_s``: a look that is not older will do.
        """
        if self._debug is None:
            return False
        live = self._rooms.find(room)
        sight = self._sights.get(live) if live is not None else None
        if sight is not None and time.monotonic() - sight.at_s < within_s:
            return True
        self._names.add(room)
        if self._next is None:
            self._next = self._tasks.begin(self._look(self._debug), name="look at subscriptions")
        try:
            await asyncio.shield(self._next)
        except LiveKitUnavailable as error:
            log.info("debug_view_away", reason=error.message)
            return False
        return True

    async def _look(self, debug: DebugView) -> None:
        async with self._turn:
            # Who comes from here on needs another look.
            names, self._names, self._next = self._names, set(), None
            copies = await debug.look(names)
        for name in names:
            self._subscriptions.saw(name, copies[name])

    def _saw(self, live: LiveRoom, copies: Sequence[DownTrack]) -> None:
        bound = [copy for copy in copies if copy.bound and _there(live, copy)]
        found = {(copy.subscriber_identity, copy.track_sid): copy for copy in bound}
        self._sights[live] = _Sight(found, now(), time.monotonic())


def _there(live: LiveRoom, copy: DownTrack) -> bool:
    """Whether it is of a session of now: one that has joined a moment ago is told of later."""
    subscriber = live.model.participants.get(copy.subscriber_identity)
    return subscriber is None or subscriber.sid == copy.subscriber_sid


def _layered(live: LiveRoom, copy: DownTrack) -> bool:
    track = live.model.tracks.get(copy.track_sid)
    video = track is not None and track.type == track_pb2.TRACK_TYPE_VIDEO
    return video and copy.spatial_layer >= 0 and not copy.disabled
