"""What WatchEvents answers: the messages of its rooms, less the events that were not asked for, and heartbeats."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Final

from track.v1 import event_pb2, track_pb2
from track_server.durations import seconds_of
from track_server.errors import InvalidCursor, RoomNotFound, TrackError
from track_server.rooms.listening import Listening, Listenings
from track_server.rooms.log import Message
from track_server.rooms.merging import Ended, Merging
from track_server.rooms.rooms import Rooms
from track_server.rooms.selection import Selection
from track_server.rooms.stream import follow
from track_server.rooms.subscriptions import Subscriptions

# Events that are passed over before others get their turn on the event loop.
_PASSED: Final = 100
# Rooms of one stream that are joined at the same time.
_JOINING: Final = 16


class Watching:
    """Answers WatchEvents. ``listening``: what else is told who listens to what."""

    def __init__(self, rooms: Rooms, subscriptions: Subscriptions, listening: Sequence[Listening] = ()) -> None:
        self._rooms = rooms
        self._subscriptions = subscriptions
        self._listenings = Listenings([subscriptions, *listening])

    async def watch(self, request: event_pb2.WatchEventsRequest) -> AsyncGenerator[bytes]:
        """Serialised WatchEventsResponses, until the last room closes.

        Raises InvalidExpression, InvalidCursor, RoomNotFound, LiveKitUnavailable, LiveKitCredentials: of several rooms
        with the place of the room in the request.
        """
        selection = Selection.of(request.kinds, request.filter)
        places = [_Place(f"rooms[{index}].", one.room, one.cursor) for index, one in enumerate(request.rooms)]
        places = places or [_Place("", request.room, request.cursor)]
        for place in places:
            with place.named():
                # What is wrong with it is said before anything is sent.
                _ = place.cursor and self._rooms.seal.read(place.room, place.cursor)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._listenings.wanted([place.room for place in places], selection))
            for place in places:
                await stack.enter_async_context(place.held)
            if request.rooms or self._subscriptions.listening:
                await self._hold(places)
            if request.rooms or request.HasField("heartbeat_interval"):
                messages = self._merged(request, places, selection)
            else:
                messages = self._one(places[0], selection)
            async with contextlib.aclosing(messages):
                async for message in messages:
                    yield message

    async def _hold(self, places: "Sequence[_Place]") -> None:
        """Has the rooms watched: so that all are known to exist before anything is sent, and are looked at for what is
        wanted of them. What goes on from a cursor may be of a room that is no more."""
        joining = asyncio.Semaphore(_JOINING)

        async def hold(place: _Place) -> None:
            with place.named():
                try:
                    async with joining:
                        live = await place.held.enter_async_context(self._rooms.watch(place.room))
                except RoomNotFound:
                    if not place.cursor:
                        raise
                else:
                    await self._subscriptions.ready(live)

        try:
            async with asyncio.TaskGroup() as group:
                for place in places:
                    group.create_task(hold(place), name=f"hold {place.room}")
        except* TrackError as errors:
            raise errors.exceptions[0] from None

    async def _one(self, place: "_Place", selection: Selection) -> AsyncGenerator[bytes]:
        """One room, without heartbeats."""
        async with contextlib.aclosing(self._messages(place, selection, lambda _: None)) as messages:
            async for message in messages:
                yield message.encoded()

    async def _merged(
        self, request: event_pb2.WatchEventsRequest, places: "Sequence[_Place]", selection: Selection
    ) -> AsyncGenerator[bytes]:
        """All of them, with heartbeats where the request wants some."""
        beat_s = seconds_of(request.heartbeat_interval) if request.HasField("heartbeat_interval") else None
        loop = asyncio.get_running_loop()
        async with Merging() as merging:
            # Those that were silent for longest come first.
            pulses: OrderedDict[str, _Pulse] = OrderedDict()
            for place in places:
                pulses[place.room] = pulse = _Pulse(place, loop.time())
                merging.add(place.room, self._messages(place, selection, pulse.passed), begins=not place.cursor)
            beaten = False
            while pulses:
                room, pulse = next(iter(pulses.items()))
                due = None if beat_s is None else pulse.told + beat_s
                # Neither may keep the other from its turn.
                overdue = due is not None and due <= loop.time() and not beaten
                offer = None if overdue else await merging.take(due)
                beaten = offer is None
                if offer is None:
                    if pulse.cursor:
                        yield pulse.beat(self._rooms.freshness(room))
                else:
                    room, what = offer
                    pulse = pulses[room]
                    if isinstance(what, Ended):
                        if what.error is not None:
                            raise what.error
                        del pulses[room]
                        continue
                    pulse.passed(what)
                    yield what.encoded() + pulse.tag
                pulse.told = loop.time()
                pulses.move_to_end(room)

    async def _messages(
        self, place: "_Place", selection: Selection, passed: Callable[[Message], None]
    ) -> AsyncGenerator[Message]:
        """The room's, as far as they are selected; ``passed`` is told of the others."""
        count = 0
        async with place.held, contextlib.aclosing(follow(self._rooms, place.room, place.cursor)) as messages:
            with place.named():
                async for message in messages:
                    event = None if selection.everything else message.event
                    if event is None or selection.matches(place.room, event):
                        yield message
                        continue
                    passed(message)
                    count += 1
                    if not count % _PASSED:
                        await asyncio.sleep(0)


class _Place:
    """A room of a request, and where to begin in it. ``path``: of it in the request; empty: the request itself."""

    def __init__(self, path: str, room: str, cursor: str) -> None:
        self._path = path
        self.room = room
        self.cursor = cursor
        self.tag = event_pb2.WatchEventsResponse(room=room).SerializeToString() if path else b""
        """Says, behind a serialised message, of which room it is, where there are several."""
        self.held = contextlib.AsyncExitStack()
        """What keeps the room watched."""

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """An error about the room or its cursor names the place in the request."""
        try:
            yield
        except (RoomNotFound, InvalidCursor) as error:
            # Not in place: others may wait for the same.
            raise type(error)(error.message, field=f"{self._path}{error.field}" if error.field else "") from error


class _Pulse:
    """How far a stream is in one of its rooms. ``told``: when that was last said, by the loop's clock."""

    def __init__(self, place: _Place, told: float) -> None:
        self.tag = place.tag
        self.cursor = place.cursor
        """After all that was passed."""
        self.told = told

    def passed(self, message: Message) -> None:
        """The message is on its way, or is not shown."""
        self.cursor = message.text

    def beat(self, freshness: track_pb2.Freshness) -> bytes:
        """A heartbeat, serialised."""
        beat = event_pb2.WatchEventsResponse(cursor=self.cursor, heartbeat=event_pb2.Heartbeat(freshness=freshness))
        return beat.SerializeToString() + self.tag
