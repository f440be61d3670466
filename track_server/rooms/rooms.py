"""The rooms that are watched: one watcher a room, counted by its users, let go a while after the last."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import structlog

from track.v1 import event_pb2
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.room import LiveRoom
from track_server.rooms.watcher import Watcher

log = structlog.get_logger(__name__)

Listener = Callable[[str, event_pb2.RoomEvent], None]


class _Watched:
    """A room, its watcher's task, and how many use it."""

    def __init__(self, room: LiveRoom, watcher: Watcher) -> None:
        self.room = room
        self.watcher = watcher
        self.users = 0
        self.task = asyncio.create_task(watcher.run(), name=f"watch {room.name}")
        self.farewell: asyncio.TimerHandle | None = None


class Rooms:
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
    ) -> None:
        self._url = url
        self._api = api
        self._tokens = tokens
        self._linger_s = linger_s
        self._max_events = max_events
        self._transport_timeout_s = transport_timeout_s
        self._watched: dict[str, _Watched] = {}
        self._listeners: list[Listener] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all watchers. May be called twice."""
        for name in list(self._watched):
            self._drop(self._watched[name])
        await asyncio.gather(*self._ending, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._watched)

    def find(self, name: str) -> LiveRoom | None:
        """The room if it is watched and its model follows LiveKit now."""
        watched = self._watched.get(name)
        return watched.room if watched is not None and watched.room.current else None

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of LiveKit's changes in watched rooms. It must neither wait nor raise."""
        self._listeners.append(listener)

    def announce(self, name: str, event: event_pb2.RoomEvent) -> None:
        """Adds an event of a capability's own to the room's log, if it is watched."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.room.announce(event)

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncIterator[LiveRoom]:
        """Keeps the room watched for the span of the block, which begins once it was seen.

        Raises RoomNotFound where LiveKit has no such room, LiveKitUnavailable, LiveKitCredentials.
        """
        watched = self._watched.get(name)
        if watched is None or watched.room.closed:
            room = LiveRoom(name, self._max_events, self._tell)
            watcher = Watcher(room, self._url, self._api, self._tokens, transport_timeout_s=self._transport_timeout_s)
            if watched is not None:
                self._drop(watched)
            watched = self._watched[name] = _Watched(room, watcher)
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

    def _tell(self, name: str, event: event_pb2.RoomEvent) -> None:
        for listener in self._listeners:
            listener(name, event)

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
        self._ending.add(watched.task)
        watched.task.add_done_callback(self._ending.discard)
