"""Who subscribes to what, told as events: what this service asks LiveKit for, and what LiveKit's debug view shows.

LiveKit tells nobody but the subscriber. Its debug view, where the operator turned it on, is looked at for as long as
somebody listens; without it, requests alone are told.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from weakref import WeakKeyDictionary

import structlog

from track.v1 import event_pb2
from track_server.errors import LiveKitUnavailable
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView, DownTrack
from track_server.rooms.downtracks import Pair, Received, changes, old, received, subscription_event
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.selection import Selection

log = structlog.get_logger(__name__)

KINDS: Final = frozenset({"subscription_changed", "received_layer_changed"})
"""The events that are told here."""

_INTERVAL_S: Final = 1.0
# At most this share of the time is spent looking: large rooms are looked at less often.
_SHARE: Final = 0.05
# LiveKit's reconciler takes 3 s at most, and a client that must negotiate a while longer.
_EXPECTED_S: Final = 10.0
_READY_S: Final = 3.0

Key = tuple[str, str]
"""Identity of a subscriber, and a track's SID."""


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


class Subscriptions(Closing):
    """Asks for subscriptions, and tells of them, `async with`. ``debug``: None where the debug view is not on."""

    def __init__(
        self, rooms: Rooms, api: LiveKitApi, debug: DebugView | None, *, interval_s: float = _INTERVAL_S
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._debug = debug
        self._interval_s = interval_s
        self._wanted: dict[object, frozenset[str]] = {}
        """The rooms by who wants them; none stands for all."""
        self._told: WeakKeyDictionary[LiveRoom, _Told] = WeakKeyDictionary()
        self._hurry = asyncio.Event()
        self._looked = asyncio.Event()
        self._failing = False
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        if self._debug is not None:
            self._tasks.spawn(self._run(self._debug), name="look at subscriptions")
        return self

    async def aclose(self) -> None:
        """Looks no more. May be called twice."""
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
        """Asks LiveKit to subscribe the participant to those tracks, or to unsubscribe it, and tells that it was asked.

        Raises LiveKitUnavailable, LiveKitNotFound, and what else LiveKit refuses.
        """
        live = self._rooms.find(room)
        asked = [_Asked(subscribe, cause, time.monotonic() + _EXPECTED_S) for _ in track_sids]
        keys = [(identity, sid) for sid in track_sids]
        told = self._of(live).asked if live is not None else {}
        told |= dict(zip(keys, asked, strict=True))
        try:
            await self._api.update_subscriptions(room, identity, track_sids, subscribe=subscribe)
        except BaseException:
            for key, request in zip(keys, asked, strict=True):
                if told.get(key) is request:
                    del told[key]
            raise
        for sid, request in zip(track_sids, asked, strict=True):
            request.pending = False
            event = subscription_event(identity, sid, subscribed=subscribe, seen=False)
            event.cause.CopyFrom(cause)
            self._rooms.announce(room, event)

    def saw(self, room: str, copies: Iterable[DownTrack]) -> None:
        """Somebody has looked at the room, for a purpose of its own."""
        live = self._rooms.find(room)
        if live is not None:
            self._compare(live, copies)

    # Looking.

    async def _run(self, debug: DebugView) -> None:
        while True:
            await self._hurry.wait()
            self._hurry.clear()
            if not self._wanted:
                continue
            took_s = await self._look(debug)
            self._looked.set()
            self._looked = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.call_later(max(self._interval_s, took_s / _SHARE), self._hurry.set)

    async def _look(self, debug: DebugView) -> float:
        """One look at all rooms that are wanted; returns the seconds of CPU time that it was."""
        names = self._rooms.watched() if not all(self._wanted.values()) else set().union(*self._wanted.values())
        lives = [live for name in names if (live := self._rooms.find(name)) is not None]
        if not lives:
            return 0.0
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
                self._compare(live, copies[live.name])
            worked_s += time.thread_time() - begun
            await asyncio.sleep(0)
        return worked_s

    def _compare(self, live: LiveRoom, copies: Iterable[DownTrack]) -> None:
        """Tells what is another than it was told."""
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
        told.pairs, told.whole = after, True
        for event in events:
            self._attribute(told, event)
            live.announce(event)

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


def _sids(live: LiveRoom) -> frozenset[str]:
    return frozenset([found.sid for found in live.model.participants.values()]) | live.model.tracks.keys()
