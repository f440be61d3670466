"""The controller of one room, for one life of it: keeps subscribers as decided while this server has its lease."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

import structlog

from track.v1 import event_pb2
from track_server.deadline import Deadline
from track_server.lifetime import Closing, Tasks
from track_server.pulse import Pulse
from track_server.rooms.downtracks import Pair, Received
from track_server.rooms.room import LiveRoom
from track_server.rooms.selection import Selection
from track_server.store.leases import Lease
from track_server.store.records import StoreError
from track_server.subscription.controller.means import Connection, Means
from track_server.subscription.controller.pair import PairState
from track_server.subscription.controller.scope import Before, touched
from track_server.subscription.controller.subscriber import Subscriber
from track_server.subscription.controller.videos import Videos

log = structlog.get_logger(__name__)

LEASE: Final = "subscriptions"
"""The key of its lease."""
LEASE_S: Final = 15.0
"""For how long a lease is taken, and after how long another server takes over from one that died."""
_RENEW_S: Final = LEASE_S / 3
_MARGIN_S: Final = 1.0
"""So long before the lease lapses nothing is begun any more: it is over before somebody else acts."""


class RoomController(Closing):
    """Of a watched room, `async with`."""

    def __init__(self, means: Means, live: LiveRoom, on_moved: "Callable[[RoomController], None]") -> None:
        """``on_moved`` is called whenever something came about."""
        self._means = means
        self.live = live
        self._on_moved = on_moved
        self._subscribers: dict[str, Subscriber] = {}
        self._before = Before()
        self._videos = Videos()
        self._shown: Mapping[Pair, Received] = {}
        self._lease: Lease | None = None
        self._kicked = asyncio.Event()
        self._leaving: set[Subscriber] = set()
        self._moved = Pulse()
        self._closed = False
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of the room; what is decided stays. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.live.log.wake()
        self._means.subscriptions.release(self)
        self._means.attendance.unfollow(self, self.live.name, dismiss=self.acting)
        await self._tasks.aclose()
        for subscriber in [*self._subscribers.values(), *self._leaving]:
            await subscriber.aclose()
        self._subscribers.clear()
        lease, self._lease = self._lease, None
        if lease is not None:
            with contextlib.suppress(StoreError):
                await self._means.leases.release(lease)

    def begin(self) -> None:
        """Begins to work."""
        self._means.subscriptions.want(self, [self.live.name], Selection())
        self._tasks.spawn(self._hold(), name=f"lease of {self.live.name}")
        self._tasks.spawn(self._decide(), name=f"subscriptions in {self.live.name}")
        self._tasks.spawn(self._connect(), name=f"connections in {self.live.name}")

    @property
    def acting(self) -> bool:
        """Whether this server has the lease."""
        return self._lease is not None and time.time() < self._lease.expire_time - _MARGIN_S

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be done, about anybody."""
        return self.acting and all(subscriber.at_rest for subscriber in self._subscribers.values())

    async def finished(self) -> None:
        """Returns when the room is closed, or this is."""
        while not (self.live.closed or self._closed):
            await self.live.log.changed()

    # What is told to it.

    def happened(self, event: event_pb2.RoomEvent) -> None:
        """LiveKit changed something in the room."""
        before, _ = self._before.took(event)
        match event.WhichOneof("change"):
            case "participant_joined":
                self._join(event.participant_joined.identity)
            case "participant_left":
                self._leave(event.participant_left.identity)
            case "track_unpublished":
                self._videos.forget(event.track_unpublished.sid)
            case _:
                pass
        room = self.live.name
        rulesets = {identity: self._means.policies.ruleset(room, identity) for identity in self._subscribers}
        private = bool(self._means.restrictions.of_room(room))
        for identity, sids in touched(event, before, self.live.model, rulesets, private=private):
            self.mark(identity, sids)

    def mark(self, identity: str, track_sids: Collection[str] | None = None) -> None:
        """Something changed that decides about that subscriber (empty: all), and those tracks (None: all)."""
        names = [identity] if identity else self._subscribers
        for name in names:
            if subscriber := self._subscribers.get(name):
                subscriber.mark(track_sids)
        self._kicked.set()
        self.moved()

    def told(self, identity: str) -> None:
        """The subscriber's client reported something."""
        subscriber = self._subscribers.get(identity)
        if subscriber is not None:
            subscriber.subscribing.looked()
            subscriber.layering.kick()
            self.mark(identity)

    def took(self, identity: str, track_sids: Collection[str], *, subscribe: bool) -> None:
        """LiveKit was asked for that."""
        subscriber = self._subscribers.get(identity)
        if subscriber is not None:
            subscriber.subscribing.took(track_sids, subscribe=subscribe)

    def stir(self, pairs: Collection[tuple[str, str]]) -> None:
        """A call has done what it had to do about those."""
        for identity, track_sid in pairs:
            if subscriber := self._subscribers.get(identity):
                subscriber.subscribing.stir([track_sid])

    def looked(self) -> None:
        """The debug view was looked at."""
        shown = self._means.subscriptions.shown(self.live) or {}
        identities = {subscriber.participant_sid: identity for identity, subscriber in self._subscribers.items()}
        changed: dict[str, set[str]] = {}
        for pair in shown.keys() ^ self._shown.keys():
            if identity := identities.get(pair.participant_sid):
                changed.setdefault(identity, set()).add(pair.track_sid)
        self._shown = shown
        for identity, subscriber in self._subscribers.items():
            subscriber.subscribing.looked()
            if subscriber.subscribing.came_home():
                subscriber.mark()
                self._kicked.set()
            if sids := changed.get(identity):
                subscriber.subscribing.stir(sids)
                # Who does not receive a video needs no part of the budget.
                subscriber.mark(sids)
        if changed:
            self._kicked.set()
        self.moved()

    def moved(self) -> None:
        """Something came about: whoever waits looks again."""
        self._moved.beat()
        self._on_moved(self)

    # Reading.

    def state(self, identity: str, track_sid: str) -> PairState | None:
        """How it stands with that pair."""
        return found.state(track_sid) if (found := self._subscribers.get(identity)) is not None else None

    def off(self, identity: str, track_sid: str) -> bool | None:
        """See Controllers."""
        return found.off(track_sid) if (found := self._subscribers.get(identity)) is not None else None

    async def settle(self, pairs: Collection[tuple[str, str]], deadline: Deadline) -> None:
        """See Controllers."""
        self._means.subscriptions.hasten()
        await self._moved.until(lambda: all(self._settled(*pair) for pair in pairs), deadline.remaining_s())

    def _settled(self, identity: str, track_sid: str) -> bool:
        subscriber = self._subscribers.get(identity)
        if subscriber is None:
            return identity not in self.live.model.participants
        return track_sid not in self.live.model.tracks or subscriber.settled(track_sid)

    # Working.

    def _join(self, identity: str) -> None:
        participant = self.live.model.participants.get(identity)
        known = self._subscribers.get(identity)
        if participant is None or (known is not None and known.participant_sid == participant.sid):
            return
        if known is not None:
            self._leave(identity)
        connection = Connection(self.live, identity, participant.sid, lambda: self.acting, self.moved)
        subscriber = self._subscribers[identity] = Subscriber(self._means, connection, self._videos)
        subscriber.begin()

    def _leave(self, identity: str) -> None:
        subscriber = self._subscribers.pop(identity, None)
        if subscriber is None:
            return
        self._leaving.add(subscriber)
        self._tasks.spawn(self._part(identity, subscriber), name=f"let go of {identity}")

    async def _part(self, identity: str, subscriber: Subscriber) -> None:
        await subscriber.aclose()
        self._leaving.discard(subscriber)
        known = self._subscribers.get(identity)
        if known is None or known.participant_sid != subscriber.participant_sid:
            await self._forget(identity, subscriber.participant_sid)
        self.moved()

    async def _forget(self, identity: str, participant_sid: str) -> None:
        """The connection is over: nothing is owed to it any more."""
        try:
            if self._means.takings.of(self.live.name, identity, participant_sid) and self.acting:
                await self._means.takings.drop(self.live.name, identity, participant_sid)
        except StoreError as error:
            log.warning("subscription_taken_not_forgotten", room=self.live.name, reason=str(error))

    async def _decide(self) -> None:
        """Decides what is marked, subscriber by subscriber, letting others work in between."""
        while True:
            await self._kicked.wait()
            self._kicked.clear()
            if not self.acting:
                continue
            for identity in [name for name, subscriber in self._subscribers.items() if subscriber.marked]:
                subscriber = self._subscribers.get(identity)
                if subscriber is not None and subscriber.marked:
                    self._means.counts.decided(await subscriber.decide())
                    await asyncio.sleep(0)
            self.moved()

    async def _connect(self) -> None:
        """Tells subscribers that their connection is up."""
        model = self.live.model
        told: set[str] = set()
        while not self.live.closed:
            if model.connected != told:
                for subscriber in self._subscribers.values():
                    if subscriber.participant_sid in model.connected:
                        subscriber.subscribing.connected()
                told = set(model.connected)
            await self.live.log.changed()

    async def _hold(self) -> None:
        """Has the lease, or waits for it."""
        while True:
            try:
                await self._renew()
            except StoreError as error:
                log.warning("lease_not_renewed", room=self.live.name, reason=str(error))
            await asyncio.sleep(_RENEW_S)

    async def _renew(self) -> None:
        """Raises StoreError."""
        means, room = self._means, self.live.name
        if self._lease is not None:
            acted, self._lease = self.acting, await means.leases.renew(self._lease, LEASE_S)
            if self._lease is not None:
                if not acted:
                    self._wake()
                return
            log.warning("lease_lost", room=room)
            means.attendance.unfollow(self, room, dismiss=False)
        lease = await means.leases.take(room, LEASE, LEASE_S)
        if lease is None:
            return
        await means.takings.reload(room)
        self._lease = lease
        # A companion reports to one server: to the one that decides.
        means.attendance.follow(self, self.live)
        self._begin_subscribers()

    def _wake(self) -> None:
        """It may act again, after a moment in which it might not."""
        for subscriber in self._subscribers.values():
            subscriber.subscribing.kick()
            subscriber.layering.kick()
        self._kicked.set()

    def _begin_subscribers(self) -> None:
        """The room is this server's from now on."""
        self._before.take(self.live.model)
        for identity in list(self._subscribers):
            self._leave(identity)
        for identity in list(self.live.model.participants):
            self._join(identity)
        for subscriber in self._subscribers.values():
            if subscriber.participant_sid in self.live.model.connected:
                subscriber.subscribing.connected()
        self.mark("")
