"""The quality of the rooms that somebody follows: an assessment for each, and the ticker of all."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, Self

import structlog

from track.media.v1.media_service_pb2 import SessionStats
from track.v1 import event_pb2
from track_server.lifetime import Closing, Tasks
from track_server.livekit.debug import DownTrack
from track_server.pulse import Pulse
from track_server.quality.clock import Clock, Moment, SystemClock
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.reading import Flow, Reading
from track_server.quality.live.flows import Context
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.room import LiveRoom

log = structlog.get_logger(__name__)

TICK_S: Final = 1.0
"""Between two looks at a room, in seconds, and two statistics of it: LiveKit reports no more often."""

LINGER_S: Final = 15.0
"""A room is followed on for so long, in seconds, after the last who did, so that who comes back finds its windows."""


class Watched(Protocol):
    """The rooms that are watched: see Rooms."""

    def followed(self, name: str) -> LiveRoom | None:
        """The room, if it is watched and was seen."""


Listener = Callable[[RoomAssessment, Assessed, Moment], None]
"""Told of each tick of each room, after it. It must neither wait nor raise."""


class Assessing(Closing):
    """Owner of one RoomAssessment for each live room that somebody follows, and of their ticker; `async with`.

    A room that is watched for whatever reason is assessed while somebody follows it; who keeps it watched is the
    follower's business. ``happened`` listens to Rooms, ``looked`` to Subscriptions.
    """

    def __init__(self, rooms: Watched, *, clock: Clock | None = None, linger_s: float = LINGER_S) -> None:
        self.clock: Final[Clock] = clock or SystemClock()
        self.context: Final = Context()
        """What the assessments ask of the rest of the service. Filled in by who puts the parts together."""
        self.heard: Final = Pulse()
        """Beats whenever something was measured."""
        self._rooms = rooms
        self._linger_s = linger_s
        self._followers: dict[str, set[object]] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._assessments: dict[str, RoomAssessment] = {}
        self._listeners: list[Listener] = []
        self._ends: list[Callable[[RoomAssessment], None]] = []
        self._observers: list[Callable[[str], None]] = []
        self._make: Callable[[str], Adaptation | None] = lambda _room: None
        self._any = asyncio.Event()
        self._tasks = Tasks()
        self._closed = False

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._run(), name="quality ticks")
        return self

    async def aclose(self) -> None:
        """Follows no room any more. May be called twice."""
        self._closed = True
        for handle in self._lingering.values():
            handle.cancel()
        self._lingering.clear()
        self._followers.clear()
        for room in list(self._assessments):
            self._end(room)
        await self._tasks.aclose()

    # Who follows.

    def follow(self, owner: object, room: str) -> None:
        """``owner`` (hashable) wants the room's quality from now on, over all its lives. Never waits."""
        if self._closed:
            return
        owners = self._followers.get(room)
        lingering = self._lingering.pop(room, None)
        if lingering is not None:
            lingering.cancel()
        if owners is None:
            owners = self._followers[room] = set()
            self._any.set()
            self._demanded(room)
        owners.add(owner)
        self.of(room)

    def release(self, owner: object, room: str) -> None:
        """``owner`` wants it no more. Others may; and LINGER_S pass before its assessment ends."""
        owners = self._followers.get(room)
        if owners is None:
            return
        owners.discard(owner)
        if not owners and room not in self._lingering:
            loop = asyncio.get_running_loop()
            self._lingering[room] = loop.call_later(self._linger_s, self._leave, room)

    @contextmanager
    def following(self, room: str) -> Iterator[None]:
        """Follows the room for the span of the block."""
        owner = object()
        self.follow(owner, room)
        try:
            yield
        finally:
            self.release(owner, room)

    def stats_interval(self, room: str) -> float | None:
        """How often clients and hosted sessions of the room should tell statistics, in seconds; None: not at all."""
        return TICK_S if room in self._followers else None

    def demand(self, observer: Callable[[str], None]) -> None:
        """``observer`` is told of each room whose ``stats_interval`` changed. It must neither wait nor raise."""
        self._observers.append(observer)

    # What is known.

    def of(self, room: str) -> RoomAssessment | None:
        """The assessment of the room as it lives now; None where it is not followed, or not watched."""
        found = self._assessments.get(room)
        if room not in self._followers:
            return found
        live = self._rooms.followed(room)
        if found is not None and found.live is live:
            return found
        if found is not None:
            self._end(room)
        if live is None or self._closed:
            return None
        made = self._assessments[room] = RoomAssessment(live, Assessment(self._make(room)), self.context)
        made.sync()
        log.debug("room_assessed", room=room)
        return made

    def add(self, room: str, flow: Flow, readings: Sequence[Reading]) -> bool:
        """Takes the readings of one source at one moment; False where nobody follows the room, or the flow is none
        of it: no such track, not its publisher (UPLINK), or no subscriber in the room (DOWNLINK)."""
        found = self.of(room)
        if found is None or not found.add(flow, readings, self.clock.now()):
            return False
        self.heard.beat()
        return True

    def record(self, room: str, identity: str, stats: SessionStats) -> None:
        """Takes what the hosted session of that participant tells of what it publishes."""
        found = self.of(room)
        if found is None:
            return
        now = self.clock.now()
        for track in stats.tracks:
            found.record(identity, track, now)
        self.heard.beat()

    def listen(self, listener: Listener) -> None:
        """``listener`` is told of each tick from now on."""
        self._listeners.append(listener)

    def closing(self, listener: Callable[[RoomAssessment], None]) -> None:
        """``listener`` is told when an assessment ends: nobody follows it any more, or the room closed."""
        self._ends.append(listener)

    def adapt_with(self, make: Callable[[str], Adaptation | None]) -> None:
        """``make`` gives a room its adaptation when its assessment begins; None: nothing is done there."""
        self._make = make

    def readapt(self, room: str) -> None:
        """The room is given another adaptation now: a policy came or went, or the room's lease did."""
        found = self._assessments.get(room)
        if found is not None:
            found.assessment.adaptation = self._make(room)

    # What is told to it.

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """LiveKit changed something. See the class."""
        if room in self._followers and (found := self.of(room)) is not None:
            found.happened(event)

    def looked(self, live: LiveRoom, copies: Sequence[DownTrack]) -> None:
        """The debug view was looked at. See the class."""
        found = self._assessments.get(live.name)
        if found is not None and found.live is live:
            found.looked(copies, self.clock.now())

    # The ticker.

    async def _run(self) -> None:
        next_s = self.clock.now().monotonic_s
        while True:
            if not self._followers:
                self._any.clear()
                await self._any.wait()
                next_s = self.clock.now().monotonic_s
            # Ticks that were missed are left out, and the beat is kept.
            behind_s = self.clock.now().monotonic_s - next_s
            next_s += TICK_S * (1 + max(0, int(behind_s / TICK_S)))
            await self.clock.sleep(max(0.0, next_s - self.clock.now().monotonic_s))
            for room in list(self._followers):
                await self._tick(room)
                await asyncio.sleep(0)

    async def _tick(self, room: str) -> None:
        try:
            found = self.of(room)
            if found is None:
                return
            now = self.clock.now()
            for _ in found.look(now):
                await asyncio.sleep(0)
            if self._assessments.get(room) is not found:
                # It ended in between, and whoever listens was told so.
                return
            for listener in self._listeners:
                listener(found, found.last, now)
        except Exception:
            # One room's trouble is not that of the others.
            log.exception("quality_tick_broke", room=room)

    def _leave(self, room: str) -> None:
        self._lingering.pop(room, None)
        if self._followers.get(room):
            return
        self._followers.pop(room, None)
        self._end(room)
        self._demanded(room)

    def _end(self, room: str) -> None:
        found = self._assessments.pop(room, None)
        if found is not None:
            for listener in self._ends:
                listener(found)

    def _demanded(self, room: str) -> None:
        for observer in self._observers:
            observer(room)
