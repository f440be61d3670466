"""Who subscribes to what, told as events: what this service asks LiveKit for, and what LiveKit's debug view shows.

LiveKit tells nobody but the subscriber. Its debug view, where the operator turned it on, is looked at for as long as
somebody listens; without it, requests alone are told.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from weakref import WeakKeyDictionary

import structlog

from track.v1 import event_pb2
from track_server.errors import LiveKitUnavailable
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView, DownTrack
from track_server.pulse import Pulse
from track_server.rooms.downtracks import Pair, Received, changes, old, received, subscription_event
from track_server.rooms.lookpace import FIRST_S, LookPace
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.selection import Selection

log = structlog.get_logger(__name__)

KINDS: Final = frozenset({"subscription_changed", "received_layer_changed"})
"""The events that are told here."""

_INTERVAL_S: Final = 1.0
# LiveKit's reconciler takes 3 s at most, and a client that must negotiate a while longer.
_EXPECTED_S: Final = 10.0
_READY_S: Final = 3.0
# A look that somebody else took was begun so long ago, or less.
_FETCHED_S: Final = 0.1

Key = tuple[str, str]
"""Identity of a subscriber, and a track's SID."""

Onlooker = Callable[[LiveRoom, Sequence[DownTrack]], None]
"""Told of each look at a room. It must neither wait nor raise."""


@dataclass(slots=True)
class _Asked:
    """What LiveKit was asked for, and by whom. ``pending``: it has not answered yet."""

    subscribe: bool
    cause: event_pb2.EventCause
    until: float
    pending: bool = True


@dataclass(slots=True)
class _Told:
    """What those who listen to a room know. ``silent``: SIDs of what was there when they began to.

    ``whole``: it was looked at once. What is between two of ``silent`` then is not told: it was not seen to change.
    """

    silent: frozenset[str]
    pairs: dict[Pair, Received] = field(default_factory=dict)
    asked: dict[Key, _Asked] = field(default_factory=dict)
    whole: bool = False
    looked_at: float = 0.0


class Subscriptions(Closing):
    """Asks for subscriptions, and tells of them, `async with`. ``debug``: None where the debug view is not on."""

    def __init__(
        self, rooms: Rooms, api: LiveKitApi, debug: DebugView | None, *, interval_s: float = _INTERVAL_S
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._debug = debug
        self._pace = LookPace(interval_s)
        self._wanted: dict[object, frozenset[str]] = {}
        """The rooms by who wants them; none stands for all."""
        self._told: WeakKeyDictionary[LiveRoom, _Told] = WeakKeyDictionary()
        self._hurry = asyncio.Event()
        self._next: asyncio.TimerHandle | None = None
        self._looked = Pulse()
        self._onlookers: list[Onlooker] = []
        self._failing = False
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        if self._debug is not None:
            self._tasks.spawn(self._run(self._debug), name="look at subscriptions")
        return self

    async def aclose(self) -> None:
        """Looks no more. May be called twice."""
        if self._next is not None:
            self._next.cancel()
        await self._tasks.aclose()

    # Who listens.

    def want(self, owner: object, rooms: Iterable[str], selection: Selection) -> None:
        """``owner`` listens to those rooms, or to all where none is given, from now on, unless its selection is of
        other events. In the place of what it wanted before."""
        self.release(owner)
        if not selection.may_show(KINDS):
            return
        names = frozenset(rooms)
        for name in names or self._rooms.watched():
            live = self._rooms.find(name)
            if live is not None and not self._heard(name) and not (told := self._of(live)).whole:
                told.silent = _sids(live)
        self._wanted[owner] = names
        self._hurry.set()

    def release(self, owner: object) -> None:
        """``owner`` listens no more."""
        self._wanted.pop(owner, None)

    @contextlib.contextmanager
    def wanted(self, rooms: Iterable[str], selection: Selection) -> Iterator[None]:
        """Somebody listens for the span of the block; see ``want``."""
        owner = object()
        self.want(owner, rooms, selection)
        try:
            yield
        finally:
            self.release(owner)

    @property
    def listening(self) -> bool:
        """Whether anybody listens, and there is a view to look at."""
        return bool(self._wanted) and self._debug is not None

    def hasten(self) -> None:
        """Something was asked for, and somebody waits for it to show: looks soon, and more often for a while."""
        self._pace.hasten(time.monotonic())
        if self.listening:
            self._look_in(FIRST_S)

    def shown(self, live: LiveRoom) -> Mapping[Pair, Received] | None:
        """What the room's participants got at the last look; None where nobody looks, or nothing can be seen (yet)."""
        told = self._told.get(live)
        sees = told is not None and told.whole and self._heard(live.name) and not self._failing
        return told.pairs if sees and told is not None else None

    def looked_at(self, live: LiveRoom) -> float:
        """When the last look at the room was begun, in seconds of the monotonic clock; 0 where nobody looked."""
        told = self._told.get(live)
        return told.looked_at if told is not None else 0.0

    async def ready(self, live: LiveRoom) -> None:
        """Returns once the room was looked at for those who want it, so that what changes from now on is told; or after
        3 s, where the debug view does not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while self.listening and not self._of(live).whole and live.current:
                    self._hurry.set()
                    await self._looked.wait()

    # Asking.

    async def update(
        self, room: str, identity: str, track_sids: Sequence[str], *, subscribe: bool, cause: event_pb2.EventCause
    ) -> None:
        """`update_each` with one cause for all."""
        await self.update_each(room, identity, dict.fromkeys(track_sids, cause), subscribe=subscribe)

    async def update_each(
        self, room: str, identity: str, causes: Mapping[str, event_pb2.EventCause], *, subscribe: bool
    ) -> None:
        """Asks LiveKit to subscribe the participant to the tracks of ``causes`` (by SID), or to unsubscribe it, and
        tells that it was asked.

        Raises LiveKitUnavailable, LiveKitNotFound, and what else LiveKit refuses.
        """
        until = time.monotonic() + _EXPECTED_S
        told = self._of(live).asked if (live := self._rooms.find(room)) is not None else {}
        asked = {}
        for sid, cause in causes.items():
            asked[identity, sid] = _Asked(subscribe, _first(told.get((identity, sid)), subscribe, cause), until)
        told |= asked
        try:
            await self._api.update_subscriptions(room, identity, list(causes), subscribe=subscribe)
        except BaseException:
            for key, request in asked.items():
                if told.get(key) is request:
                    del told[key]
            raise
        for (_, sid), request in asked.items():
            request.pending = False
            event = subscription_event(identity, sid, subscribed=subscribe, seen=False)
            event.cause.CopyFrom(causes[sid])
            self._rooms.announce(room, event)

    def look_along(self, onlooker: Onlooker) -> None:
        """``onlooker`` is told what each look shows from now on."""
        self._onlookers.append(onlooker)

    def saw(self, room: str, copies: Sequence[DownTrack]) -> None:
        """Somebody has looked at the room, for a purpose of its own."""
        live = self._rooms.find(room)
        if live is not None:
            self._compare(live, copies, time.monotonic() - _FETCHED_S)

    # Looking.

    async def _run(self, debug: DebugView) -> None:
        while True:
            await self._hurry.wait()
            self._hurry.clear()
            if not self._wanted:
                continue
            took_s = await self._look(debug)
            self._looked.beat()
            self._look_in(self._pace.due_in(took_s, time.monotonic()))

    def _look_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(seconds, self._hurry.set)

    async def _look(self, debug: DebugView) -> float:
        """One look at all rooms that are wanted; returns the seconds of CPU time that it was."""
        names = self._rooms.watched() if not all(self._wanted.values()) else set().union(*self._wanted.values())
        lives = [live for name in names if (live := self._rooms.find(name)) is not None]
        if not lives:
            return 0.0
        begun_at = time.monotonic()
        try:
            copies = await debug.look({live.name for live in lives})
        except LiveKitUnavailable as error:
            if not self._failing:
                self._failing = True
                log.warning("debug_view_away", reason=error.message)
            return 0.0
        self._failing = False
        worked_s = debug.reading_s
        for live in lives:
            begun = time.thread_time()
            if live.current:
                self._compare(live, copies[live.name], begun_at)
            worked_s += time.thread_time() - begun
            await asyncio.sleep(0)
        return worked_s

    def _compare(self, live: LiveRoom, copies: Sequence[DownTrack], begun_at: float) -> None:
        """Tells what is another than it was told. ``begun_at``: when the look was begun."""
        told = self._of(live)
        now = time.monotonic()
        told.asked = {key: asked for key, asked in told.asked.items() if asked.until > now}
        after = received(copies, live.model)
        for pair in {**told.pairs, **after}:
            known = told.pairs.get(pair) or after[pair]
            asked = told.asked.get((known.identity, pair.track_sid))
            if asked is not None and asked.pending:
                # What was asked for is told first.
                after.pop(pair, None)
                if pair in told.pairs:
                    after[pair] = told.pairs[pair]
        before = told.pairs if told.whole else {**old(after, told.silent, told.asked.keys()), **told.pairs}
        events = changes(before, after, live.model)
        told.pairs, told.whole, told.looked_at = after, True, begun_at
        for event in events:
            self._attribute(told, event)
            live.announce(event)
        for onlooker in self._onlookers:
            onlooker(live, copies)

    def _attribute(self, told: _Told, event: event_pb2.RoomEvent) -> None:
        change = event.subscription_changed
        key = (change.participant_identity, change.track_sid)
        asked = told.asked.get(key) if event.HasField("subscription_changed") else None
        if asked is not None and asked.subscribe == change.subscribed:
            del told.asked[key]
            event.cause.CopyFrom(asked.cause)

    def _heard(self, room: str) -> bool:
        """Whether anybody listens to it."""
        return any(not rooms or room in rooms for rooms in self._wanted.values())

    def _of(self, live: LiveRoom) -> _Told:
        told = self._told.get(live)
        if told is None:
            told = self._told[live] = _Told(live.found)
        return told


def _first(known: _Asked | None, subscribe: bool, cause: event_pb2.EventCause) -> event_pb2.EventCause:
    """Whose doing it is when it shows: of somebody who called for it, also where a rule asks for it again."""
    called = known is not None and known.subscribe is subscribe and not known.cause.rule and cause.rule
    return known.cause if known is not None and called else cause


def _sids(live: LiveRoom) -> frozenset[str]:
    return frozenset([found.sid for found in live.model.participants.values()]) | live.model.tracks.keys()
