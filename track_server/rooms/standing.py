"""Rooms that must be watched as long as they exist, also those that do not exist yet."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from typing import Final, Self

import structlog

from track_server.errors import RoomNotFound, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

# Between two looks for rooms that are wanted and not watched. LiveKit's webhooks, where they come, make it sooner.
_LOOK_INTERVAL_S: Final = 3.0
# Hints that come within so long are looked at together.
_GATHER_S: Final = 0.05
# More rooms than so many are looked for by asking for all that there are.
_MAX_NAMES: Final = 100
# Rooms that are joined at the same time; a restart of this server may find thousands.
_JOINING: Final = 16


class Standing(Closing):
    """Keeps rooms watched for those who want them, `async with`. Its methods never wait.

    A wanted room is watched while it exists. One that does not exist is looked for: by its name in one ListRooms for
    all at an interval, and at once where ``hint`` says that it may be there. Nothing is asked of LiveKit while every
    wanted room is watched and nobody wants all.
    """

    def __init__(self, rooms: Rooms, api: LiveKitApi, *, interval_s: float = _LOOK_INTERVAL_S) -> None:
        self._rooms = rooms
        self._api = api
        self._interval_s = interval_s
        self._owners: defaultdict[str, set[str]] = defaultdict(set)
        self._owners_of_all: set[str] = set()
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._hinted: set[str] = set()
        self._look_for_all = False
        self._wake = asyncio.Event()
        self._joining = asyncio.Semaphore(_JOINING)
        self._listeners: list[Callable[[LiveRoom], None]] = []
        self._missed: list[Callable[[str], None]] = []
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._run(), name="look for rooms")
        return self

    async def aclose(self) -> None:
        """Lets go of all rooms. May be called twice."""
        await self._tasks.aclose()

    def listen(self, listener: Callable[[LiveRoom], None]) -> None:
        """Tells ``listener`` of every wanted room once it is watched, in each life of the room anew.

        It must neither wait nor raise, and hears of rooms that others want too.
        """
        self._listeners.append(listener)

    def miss(self, listener: Callable[[str], None]) -> None:
        """Tells ``listener`` at every look of every room wanted by its name that LiveKit does not have.

        It must neither wait nor raise.
        """
        self._missed.append(listener)

    def want(self, owner: str, room: str) -> None:
        """``owner`` wants that room watched, from now on and over all its lives. Once more changes nothing."""
        self._owners[room].add(owner)
        self.hint(room)

    def want_all(self, owner: str) -> None:
        """``owner`` wants every room watched that there is or will be. Once more changes nothing."""
        if owner not in self._owners_of_all:
            self._owners_of_all.add(owner)
            self._look_for_all = True
            self._wake.set()

    def release(self, owner: str, room: str) -> None:
        """``owner`` no longer wants that room by its name. Who wants all goes on wanting it."""
        owners = self._owners.get(room, set())
        owners.discard(owner)
        if not owners:
            self._owners.pop(room, None)
            self._let_go(room)

    def release_all(self, owner: str) -> None:
        """``owner`` no longer wants all rooms; those that it wants by name it goes on wanting."""
        self._owners_of_all.discard(owner)
        if not self._owners_of_all:
            for room in list(self._kept):
                self._let_go(room)

    def wanted(self, room: str) -> bool:
        """Whether anybody wants it."""
        return bool(self._owners_of_all) or room in self._owners

    def hint(self, room: str) -> None:
        """The room may be there now: looks at once if it is wanted and not watched."""
        if self.wanted(room) and room not in self._kept:
            self._hinted.add(room)
            self._wake.set()

    def _let_go(self, room: str) -> None:
        if not self.wanted(room):
            self._hinted.discard(room)
            if task := self._kept.pop(room, None):
                task.cancel()

    def _sought(self) -> set[str]:
        return self._owners.keys() - self._kept.keys()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            seeking = bool(self._owners_of_all or self._sought())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due if seeking else None):
                    await self._wake.wait()
                    await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            if not seeking:
                due = loop.time() + self._interval_s
            names, self._hinted = self._hinted, set()
            if overdue := self._look_for_all or loop.time() >= due:
                names = self._sought()
                self._look_for_all = False
                due = loop.time() + self._interval_s
            try:
                await self._look(names, everything=overdue and bool(self._owners_of_all))
            except TrackError as error:
                # Looked for again at the next interval: LiveKit is away.
                log.warning("rooms_not_looked_for", reason=error.message)

    async def _look(self, names: set[str], *, everything: bool) -> None:
        """Keeps those that LiveKit has of ``names``, or of all. Raises TrackError."""
        if not everything and not names:
            return
        found = await self._api.find_rooms([] if everything or len(names) > _MAX_NAMES else names)
        for room in found:
            if self.wanted(room) and room not in self._kept:
                self._kept[room] = self._tasks.begin(self._keep(room), name=f"keep {room}")
        for room in names - found.keys():
            for listener in self._missed:
                if room in self._owners:
                    listener(room)

    async def _keep(self, name: str) -> None:
        """Keeps it watched until it is closed.

        Its next life is found by a hint or at the interval, not at once: LiveKit lists a room that it closes a moment
        longer.
        """
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with self._joining:
                    room = await stack.enter_async_context(self._rooms.watch(name))
                for listener in self._listeners:
                    listener(room)
                await room.wait_closed()
        except RoomNotFound:
            pass
        except TrackError as error:
            log.warning("room_not_kept", room=name, reason=error.message)
        finally:
            if self._kept.get(name) is asyncio.current_task():
                del self._kept[name]
                self._wake.set()
