"""The rooms that are watched: one watcher a room, counted by its users, let go a while after the last."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
from google.protobuf import struct_pb2

from track.v1 import event_pb2, track_pb2
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.causes import EXPECTED_S, Holds
from track_server.rooms.cursor import Seal
from track_server.rooms.history import History
from track_server.rooms.log import MAX_BYTES, EventLog
from track_server.rooms.model import Describe, undescribed
from track_server.rooms.room import DISCONNECTED, Contribution, LiveRoom, now
from track_server.rooms.watcher import Watcher

log = structlog.get_logger(__name__)

Listener = Callable[[str, event_pb2.RoomEvent], None]


class _Watched:
    """A room, its watcher's task, and how many use it."""

    def __init__(self, room: LiveRoom, task: asyncio.Task[None]) -> None:
        self.room = room
        self.users = 0
        self.task = task
        self.farewell: asyncio.TimerHandle | None = None


class Rooms(Closing):
    """Owner of all live rooms, `async with`."""

    def __init__(
        self,
        url: str,
        api: LiveKitApi,
        tokens: TokenMint,
        *,
        linger_s: float,
        max_events: int,
        transport_timeout_s: float,
        max_event_bytes: int = MAX_BYTES,
        history: History | None = None,
    ) -> None:
        self._url = url
        self._api = api
        self._tokens = tokens
        self._linger_s = linger_s
        self._max_events = max_events
        self._max_event_bytes = max_event_bytes
        self._history = history
        self.seal: Final = history.seal if history is not None else Seal()
        """Of the rooms' cursors."""
        self._transport_timeout_s = transport_timeout_s
        self._watched: dict[str, _Watched] = {}
        self._listeners: list[Listener] = []
        self._hearers: list[Callable[[str], None]] = []
        self._closers: list[Callable[[str], None]] = []
        self._contributions: list[Contribution] = []
        self._describe: Describe = undescribed
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Ends all watchers. May be called twice."""
        for name in list(self._watched):
            self._drop(self._watched[name])
        # Those that were cancelled just now, or before, and leave their rooms.
        await self._tasks.settle()
        await self._tasks.aclose()

    def __len__(self) -> int:
        return len(self._watched)

    def __contains__(self, name: str) -> bool:
        """Whether the room is watched, and was seen."""
        watched = self._watched.get(name)
        return watched is not None and watched.room.seen_once and not watched.room.closed

    def watched(self) -> list[str]:
        """The names of all that are watched."""
        return list(self._watched)

    def followed(self, name: str) -> LiveRoom | None:
        """The room if it is watched, was seen and is not closed; its model may be out of date."""
        watched = self._watched.get(name)
        return watched.room if watched is not None and name in self else None

    def find(self, name: str) -> LiveRoom | None:
        """The room if it is watched and its model follows LiveKit now."""
        watched = self._watched.get(name)
        return watched.room if watched is not None and watched.room.current else None

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of LiveKit's changes in watched rooms. It must neither wait nor raise."""
        self._listeners.append(listener)

    def hear(self, hearer: Callable[[str], None]) -> None:
        """Tells ``hearer`` in which watched room those who spoke last are others. It must neither wait nor raise."""
        self._hearers.append(hearer)

    def closing(self, closer: Callable[[str], None]) -> None:
        """Tells ``closer`` of each watched room that LiveKit closed, just before `room_closed`: what it announces then
        comes before that. It must neither wait nor raise."""
        self._closers.append(closer)

    def describe_with(self, describe: Describe) -> None:
        """From now on metadata of tracks comes from there."""
        self._describe = describe

    def contribute(self, contribution: Contribution) -> None:
        """Has ``contribution`` fill in its part of every snapshot from now on. It must neither wait nor raise."""
        self._contributions.append(contribution)

    @property
    def history(self) -> History | None:
        """The events in the store; None where none are kept."""
        return self._history

    def freshness(self, name: str) -> track_pb2.Freshness:
        """How current the room is; DISCONNECTED where it is not watched."""
        watched = self._watched.get(name)
        if watched is not None:
            return watched.room.freshness()
        return track_pb2.Freshness(source=DISCONNECTED, as_of_time=now())

    def announce(self, name: str, event: event_pb2.RoomEvent) -> None:
        """Adds an event of a capability's own to the room's log, if it is watched."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.room.announce(event)

    def attribute(
        self,
        name: str,
        change: str,
        subject: str,
        cause: event_pb2.EventCause,
        holds: Holds | None = None,
        *,
        within_s: float = EXPECTED_S,
    ) -> None:
        """Says who causes the next event of that ``change`` about a track, participant or publication: see Causes."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.room.causes.expect(change, subject, cause, holds, within_s=within_s)

    def unattribute(self, name: str, change: str, sid: str) -> None:
        """Takes `attribute` back."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.room.causes.forget(change, sid)

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncIterator[LiveRoom]:
        """Keeps the room watched for the span of the block, which begins once it was seen.

        Raises RoomNotFound where LiveKit has no such room, LiveKitUnavailable, LiveKitCredentials.
        """
        watched = self._watched.get(name)
        if watched is None or watched.room.closed:
            room = self._live_room(name)
            watcher = Watcher(room, self._url, self._api, self._tokens, transport_timeout_s=self._transport_timeout_s)
            if watched is not None:
                self._drop(watched)
            watched = self._watched[name] = _Watched(room, self._tasks.begin(watcher.run(), name=f"watch {name}"))
        watched.users += 1
        if watched.farewell is not None:
            watched.farewell.cancel()
            watched.farewell = None
        try:
            await watched.room.ready()
            yield watched.room
        finally:
            watched.users -= 1
            self._release(watched)

    def _live_room(self, name: str) -> LiveRoom:
        events = EventLog(
            self._max_events,
            room=name,
            seal=self.seal,
            max_bytes=self._max_event_bytes,
            keep=functools.partial(self._history.keep, name) if self._history is not None else None,
        )
        return LiveRoom(
            name,
            self._max_events,
            self._tell,
            self._describe_now,
            contributions=self._contributions,
            log=events,
            on_speech=self._heard,
            on_close=self._closes,
        )

    def _describe_now(self, track: track_pb2.Track) -> struct_pb2.Struct | None:
        return self._describe(track)

    def _tell(self, name: str, event: event_pb2.RoomEvent) -> None:
        for listener in self._listeners:
            listener(name, event)

    def _heard(self, name: str) -> None:
        for hearer in self._hearers:
            hearer(name)

    def _closes(self, name: str) -> None:
        for closer in self._closers:
            closer(name)

    def _release(self, watched: _Watched) -> None:
        if watched.users or self._watched.get(watched.room.name) is not watched:
            return
        if watched.room.closed or not watched.room.seen_once:
            self._drop(watched)
        else:
            loop = asyncio.get_running_loop()
            watched.farewell = loop.call_later(self._linger_s, self._drop, watched)

    def _drop(self, watched: _Watched) -> None:
        if self._watched.get(watched.room.name) is watched:
            del self._watched[watched.room.name]
        if watched.farewell is not None:
            watched.farewell.cancel()
        watched.task.cancel()
