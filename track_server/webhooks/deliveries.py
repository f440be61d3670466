"""All that is on its way: a courier a subscription, and a lane for each of its rooms, as long as it is there."""

import asyncio
import time
from collections import deque
from typing import Self

import structlog

from track.v1 import webhook_pb2
from track_server.errors import RoomNotFound, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.rooms.cursor import Cursor
from track_server.rooms.listening import Listening
from track_server.rooms.room import LiveRoom
from track_server.rooms.standing import Standing
from track_server.store.records import Store, StoreError
from track_server.webhooks.courier import Courier, Places
from track_server.webhooks.lane import Lane, Means
from track_server.webhooks.positions import Place, Position
from track_server.webhooks.sender import Sender
from track_server.webhooks.subscription import Subscription
from track_server.webhooks.tallies import Tally

log = structlog.get_logger(__name__)

# Rooms of an earlier run that are looked at, at the same time, and again after so long where LiveKit is away.
_OPENING = 16
_AGAIN_S = 3.0


class _Route:
    """A subscription with its courier, and its lanes by room."""

    def __init__(self, courier: Courier) -> None:
        self.courier = courier
        self.lanes: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        self.positions: dict[str, Position] = {}
        """Of rooms without a lane, as an earlier run or lane left them; the newest last."""
        self._left: deque[tuple[float, str, Position]] = deque()

    def leave(self, room: str, position: Position, *, kept_s: float) -> None:
        """The room's lane is over. What was left longer ago than ``kept_s`` is forgotten, as in the store."""
        self.lanes.pop(room, None)
        self.positions[room] = position
        now = time.monotonic()
        self._left.append((now, room, position))
        while self._left[0][0] < now - kept_s:
            _, old, left = self._left.popleft()
            if self.positions.get(old) is left:
                del self.positions[old]


class Deliveries(Closing):
    """Owner of the lanes, `async with`. Rooms of a subscription are watched from ``begin`` to ``end``."""

    def __init__(self, store: Store, standing: Standing, listening: Listening, sender: Sender, means: Means) -> None:
        self._store = store
        self._standing = standing
        self._listening = listening
        self._sender = sender
        self._means = means
        self._places = Places()
        self._opening = asyncio.Semaphore(_OPENING)
        self._routes: dict[str, _Route] = {}
        self._tasks = Tasks()
        standing.listen(self._seen)

    async def __aenter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """Sends no more. May be called twice."""
        await self._tasks.aclose()

    async def begin(self, subscription: Subscription, positions: dict[str, Position]) -> None:
        """Sends its events from now on; of rooms in ``positions`` those after them. Raises StoreError."""
        tally = Tally(self._store, subscription.room, subscription.id)
        await tally.load()
        route = _Route(Courier(subscription, self._sender, self._places, tally))
        route.positions = dict(positions)
        self._routes[subscription.id] = route
        rooms = [subscription.room] if subscription.room else []
        self._listening.want(subscription.id, rooms, subscription.selection)
        if subscription.room:
            self._standing.want(subscription.id, subscription.room)
        else:
            self._standing.want_all(subscription.id)
        for room, position in positions.items():
            if not position.ended:
                self._tasks.spawn(self._resume(route, room), name=f"resume webhooks of {room}")

    async def end(self, subscription: Subscription) -> webhook_pb2.WebhookSubscription:
        """Sends nothing of it any more, and forgets it; returns it as it was last.

        What the store fails to forget, the next start of the server forgets.
        """
        route = self._routes.pop(subscription.id)
        try:
            last = await _shown(route)
        except StoreError:
            last = subscription.shown()
        self._standing.release(subscription.id, subscription.room)
        self._standing.release_all(subscription.id)
        self._listening.release(subscription.id)
        for _, task in route.lanes.values():
            task.cancel()
        if route.lanes:
            await asyncio.wait([task for _, task in route.lanes.values()])
        try:
            for room in {*route.positions, *route.lanes}:
                await self._means.positions.forget(Place(subscription.id, room))
            await route.courier.tally.forget()
        except StoreError as error:
            log.warning("webhook_subscription_not_forgotten", subscription_id=subscription.id, reason=str(error))
        return last

    async def shown(self, subscription: Subscription) -> webhook_pb2.WebhookSubscription:
        """The subscription, with what became of its events. Raises StoreError."""
        route = self._routes.get(subscription.id)
        return subscription.shown() if route is None else await _shown(route)

    def _seen(self, live: LiveRoom) -> None:
        """Listens to Standing: the room is watched, in this life of it or this run for the first time."""
        for route in self._routes.values():
            if route.courier.subscription.about(live.name):
                self._start(route, live.name, live)

    async def _resume(self, route: _Route, room: str) -> None:
        """Goes on with a room of an earlier run, which may be there no more."""
        while True:
            try:
                async with self._opening, self._means.rooms.watch(room):
                    # Watched a while longer, so that the lane finds it so.
                    self._start(route, room, None)
            except RoomNotFound:
                self._start(route, room, None)
            except TrackError as error:
                log.info("webhook_room_away", room=room, reason=error.message)
                await asyncio.sleep(_AGAIN_S)
                continue
            return

    def _start(self, route: _Route, room: str, live: LiveRoom | None) -> None:
        subscription_id = route.courier.subscription.id
        if room in route.lanes or self._routes.get(subscription_id) is not route:
            return
        position = route.positions.pop(room, None)
        begin = None
        if position is None:
            # It came after the subscription: all that happened in it is to be sent.
            position = Position(ended=True)
            if live is not None:
                place = live.log.place_after(Cursor(live.log.cursor.epoch, 0))
                begin = None if place is None else live.log.at(place - 1)
        lane = Lane(route.courier, room, position, self._means, begin=begin)
        task = self._tasks.begin(self._run(route, lane), name=f"webhooks of {room}")
        route.lanes[room] = lane, task

    async def _run(self, route: _Route, lane: Lane) -> None:
        try:
            await lane.run()
        finally:
            route.leave(lane.room, lane.position, kept_s=self._means.positions.kept_s)


async def _shown(route: _Route) -> webhook_pb2.WebhookSubscription:
    shown = route.courier.subscription.shown()
    tally = route.courier.tally
    lanes = [lane for lane, _ in route.lanes.values()]
    shown.pending = sum([await lane.pending() for lane in lanes])
    shown.delivered, shown.parked = tally.delivered, tally.parked
    shown.parked_deliveries.extend(tally.newest)
    if route.courier.problem is not None:
        shown.last_problem.CopyFrom(route.courier.problem)
    tries = [lane.next_try_time for lane in lanes if lane.next_try_time]
    if tries:
        shown.next_try_time.FromNanoseconds(int(min(tries) * 1e9))
    return shown
