"""One room's events on their way to one receiver: in order, one at a time, until the room is over."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import structlog

from track.v1 import event_pb2, webhook_pb2
from track_server.durations import seconds_of
from track_server.errors import Internal, RoomNotFound, TrackError
from track_server.rooms.history import CursorLost
from track_server.rooms.log import Message
from track_server.rooms.rooms import Rooms
from track_server.rooms.stream import follow
from track_server.store.records import StoreError
from track_server.webhooks.backlog import Backlog
from track_server.webhooks.courier import Courier
from track_server.webhooks.messages import body_of, gap_of, parts, webhook_of
from track_server.webhooks.positions import Place, Position, Positions
from track_server.webhooks.schedule import FIRST_PAUSE_S, given_up, pause_s

log = structlog.get_logger(__name__)

# Where LiveKit or the store is away, the room is looked at again after so long.
_AGAIN_S: Final = 3.0
# Events that are not for this receiver move its position in the store no oftener than that.
_PASSING_S: Final = 30.0
_AWAY: Final = event_pb2.SNAPSHOT_REASON_WATCHER_AWAY
_SLOW: Final = event_pb2.SNAPSHOT_REASON_READER_SLOW
_EXPIRED: Final = event_pb2.SNAPSHOT_REASON_CURSOR_EXPIRED


@dataclass(frozen=True, slots=True)
class Means:
    """What all lanes work with. ``give_up_s``: how long an event is tried."""

    rooms: Rooms
    positions: Positions
    give_up_s: float
    count: Callable[[str], None]
    """Counts what became of a try: taken, failed or parked."""


class Lane:
    """Sends what comes after ``position``. ``begin``: the message with which a new room begins, to be taken first."""

    def __init__(
        self, courier: Courier, room: str, position: Position, means: Means, *, begin: Message | None = None
    ) -> None:
        self._courier = courier
        self._subscription = courier.subscription
        self._means = means
        self._begin = begin
        self._place = Place(courier.subscription.id, room)
        self._backlog = Backlog(means.rooms, courier.subscription, room)
        self._saved_at = time.monotonic()
        self._rest_s = 0.0
        """Before the next first try: what was parked just now tells that nobody takes anything."""
        self.room = room
        self.position = position
        self.next_try_time = 0.0
        """Of what waits, in seconds since 1970 UTC; 0: nothing waits for another try."""

    async def pending(self) -> int:
        """Events that wait to be sent. Raises StoreError."""
        return await self._backlog.count(self.position.cursor, ended=self.position.ended)

    async def run(self) -> None:
        """Returns once the end of the room was sent. Raises nothing but CancelledError."""
        while True:
            try:
                if self._begin is not None:
                    await self._take(self._begin)
                    self._begin = None
                await self._follow()
            except RoomNotFound as missing:
                if isinstance(missing.__cause__, CursorLost) or not self.position.cursor:
                    # LiveKit does not have it, and the store does not reach back to where we were.
                    await self._lost()
                else:
                    await asyncio.sleep(_AGAIN_S)
            except TrackError as error:
                log.info("webhook_room_away", room=self.room, reason=error.message)
                await asyncio.sleep(_AGAIN_S)
            except Exception:
                log.exception("webhook_lane_broke", room=self.room)
                await asyncio.sleep(_AGAIN_S)
            if self.position.ended and self.room not in self._means.rooms:
                return

    async def _follow(self) -> None:
        """Sends until the room is over, or the log must be read anew. Raises TrackError."""
        first = True
        async with contextlib.aclosing(follow(self._means.rooms, self.room, self.position.cursor)) as messages:
            async for message in messages:
                snapshot = message.snapshot
                if snapshot is not None and snapshot.reason == _SLOW and not first:
                    # Too far behind for the memory; the store has more.
                    return
                await self._take(message)
                first = False

    async def _lost(self) -> None:
        cursor = self.position.cursor
        if cursor:
            await self._deliver(gap_of(self._place.subscription_id, self.room, cursor, _EXPIRED))
        self.position = Position(cursor, ended=True)
        self._backlog.passed(0, jumped=True)
        await self._save()

    async def _take(self, message: Message) -> None:
        sent = parts(self._subscription, self.room, message, after_end=self.position.ended)
        for number, part in enumerate(sent):
            taken = await self._deliver(webhook_of(self._place.subscription_id, self.room, message, part, number))
            since = 0.0 if taken else self.position.failing_since
            self.position = replace(self.position, tries=0, failing_since=since)
        self.position = Position(message.text, ended=message.last, failing_since=self.position.failing_since)
        snapshot = message.snapshot
        # Every other snapshot was made for this lane alone, of the room as it is: the log did not reach back.
        self._backlog.passed(len(sent), jumped=snapshot is not None and snapshot.reason != _AWAY)
        if sent or message.last or time.monotonic() - self._saved_at > _PASSING_S:
            await self._save()

    async def _deliver(self, webhook: webhook_pb2.WebhookEvent) -> bool:
        """Returns once it was taken (True) or given up."""
        try:
            body = body_of(webhook)
        except ValueError as error:
            log.warning("webhook_not_json", room=self.room, reason=str(error))
            await self._park(webhook, Internal("the event cannot be written as JSON"))
            return False
        if self._rest_s:
            await self._wait(self._rest_s)
            self._rest_s = 0.0
        while True:
            try:
                await self._courier.send(body)
            except TrackError as error:
                self._means.count("failed")
                if await self._failed(webhook, error):
                    return False
            else:
                self._means.count("taken")
                with self._stored():
                    await self._courier.tally.taken()
                return True

    async def _failed(self, webhook: webhook_pb2.WebhookEvent, error: TrackError) -> bool:
        """Parks it and says so, or waits until the next try."""
        now, before = time.time(), self.position
        self.position = replace(before, tries=before.tries + 1, failing_since=before.failing_since or now)
        came = seconds_of(webhook.room_event.time)
        since, limit = self.position.failing_since, self._means.give_up_s
        if given_up(now, event_time=came, failing_since=since, give_up_s=limit):
            await self._park(webhook, error)
            self._rest_s = FIRST_PAUSE_S
            return True
        await self._save()
        pause = pause_s(self.position.tries, random.random())
        # One that answers and refuses may refuse this event alone: that it takes others tells nothing.
        await self._wait(pause, or_recovered=error.metadata.get("cause") != "status")
        return False

    async def _wait(self, pause: float, *, or_recovered: bool = False) -> None:
        self.next_try_time = time.time() + pause
        try:
            if or_recovered:
                await self._courier.recovered(pause)
            else:
                await asyncio.sleep(pause)
        finally:
            self.next_try_time = 0.0

    async def _park(self, webhook: webhook_pb2.WebhookEvent, error: TrackError) -> None:
        problem = error.problem()
        problem.ClearField("retry_delay")
        parked = webhook_pb2.ParkedDelivery(event=webhook, tries=self.position.tries, problem=problem)
        parked.park_time.GetCurrentTime()
        self._means.count("parked")
        log.warning(
            "webhook_parked",
            room=self.room,
            subscription_id=self._place.subscription_id,
            tries=parked.tries,
            reason=error.message,
        )
        with self._stored():
            await self._courier.tally.park(parked)

    async def _save(self) -> None:
        self._saved_at = time.monotonic()
        with self._stored():
            await self._means.positions.save(self._place, self.position, now=time.time())

    @contextlib.contextmanager
    def _stored(self) -> Iterator[None]:
        """Goes on where the store fails: what is not stored as taken is sent again after a restart."""
        try:
            yield
        except StoreError as error:
            log.warning("webhook_not_stored", room=self.room, reason=str(error))
