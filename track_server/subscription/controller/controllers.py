"""The controllers of all rooms: which rooms have one, and what the rest of the service asks of them."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.subscription_pb2 import LayerTerm
from track_server.deadline import Deadline
from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks
from track_server.rooms.room import LiveRoom
from track_server.store.records import StoreError
from track_server.subscription.controller.means import Means
from track_server.subscription.controller.pair import PairState
from track_server.subscription.controller.room import RoomController

log = structlog.get_logger(__name__)

OWNER: Final = "subscription policies"
"""Under which rooms are wanted."""

__all__ = ["Controllers", "PairState"]


class Controllers(Closing):
    """Owner of them, `async with`: a room has one while a policy, a focus, a choice, a limit (or who may set one) or a
    call's report concerns it, and until what was taken away there is given back.

    ``happened`` listens to Rooms, ``watched`` and ``missed`` to Standing, ``looked`` to Subscriptions.
    """

    def __init__(self, means: Means) -> None:
        self._means = means
        self._controllers: dict[str, RoomController] = {}
        self._tasks = Tasks()
        self._closed = False
        means.policies.listen(self._changed)
        means.focuses.listen(self._changed)
        means.choices.listen(self._chosen)
        means.states.listen(self._reported)
        means.restrictions.listen(lambda room: self.kick(room) if room in self._controllers else None)
        means.asking.listen(self._took)

    async def aclose(self) -> None:
        """Lets go of all rooms; what is decided stays. May be called twice."""
        self._closed = True
        controllers, self._controllers = list(self._controllers.values()), {}
        for controller in controllers:
            await controller.aclose()
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins with the rooms that something concerns."""
        means = self._means
        for room in {*means.policies.rooms(), *means.focuses.rooms(), *means.choices.rooms(), *means.takings.rooms()}:
            self.kick(room)

    # For the rest of the service.

    def state(self, room: str, identity: str, track_sid: str) -> PairState | None:
        """What is decided and known of a pair; None where nothing here says anything of it, or the room has no
        controller. Never waits."""
        controller = self._controllers.get(room)
        return controller.state(identity, track_sid) if controller is not None else None

    def off(self, room: str, identity: str, track_sid: str) -> bool | None:
        """Whether it is decided that the subscriber gets no media of that video; None where nothing is. Cheaper than
        ``state``; never waits."""
        controller = self._controllers.get(room)
        return controller.off(identity, track_sid) if controller is not None else None

    async def settle(self, room: str, pairs: Collection[tuple[str, str]], deadline: Deadline) -> None:
        """Returns once what is decided for those pairs (identity, track SID) is asked for and, as far as anybody can
        see it, seen; at the deadline at the latest. What was stored and told before is decided by then."""
        controller = self._controllers.get(room)
        if controller is not None:
            await controller.settle(pairs, deadline)

    @contextlib.contextmanager
    def claimed(self, room: str, pairs: Collection[tuple[str, str]]) -> Iterator[None]:
        """For the span of the block a call asks LiveKit for those pairs (identity, track SID) itself, and tells why:
        nothing is asked here meanwhile."""
        try:
            with self._means.claims.claimed(room, pairs):
                yield
        finally:
            controller = self._controllers.get(room)
            if controller is not None:
                controller.stir(pairs)

    def kick(self, room: str, identity: str = "") -> None:
        """Something that decides changed for that subscriber, or for all of the room. Never waits."""
        if self._closed:
            return
        if self._concerned(room):
            self._means.standing.want(OWNER, room)
            live = self._means.rooms.find(room)
            if live is not None:
                self.watched(live)
        controller = self._controllers.get(room)
        if controller is not None:
            controller.mark(identity)
        else:
            self._settle(room)

    def limit(self, owner: str, room: str, identity: str, track_sid: str, term: LayerTerm | None) -> None:
        """``owner`` limits what that subscriber receives of that track (empty: of every video), by a term of the kind
        NETWORK, CPU or PUBLISHER_CAP; None takes its limit back. An empty identity: for every subscriber. In memory
        alone: the owner sets it again after a restart. Never waits. Raises ValueError for another kind."""
        self._means.limits.put(owner, room, identity, track_sid, term)
        self.kick(room, identity)

    def want(self, owner: str, room: str) -> None:
        """``owner`` is to be able to limit something there: the room has a controller from now on, over all its lives,
        which learns what its clients can do. Never waits."""
        self._means.limits.want(owner, room)
        self.kick(room)

    def release(self, owner: str, room: str) -> None:
        """``owner`` wants it no more. Never waits."""
        self._means.limits.release(owner, room)
        self.kick(room)

    def acting(self, room: str) -> bool:
        """Whether it is this server that decides in the room: it has a controller and the lease."""
        controller = self._controllers.get(room)
        return controller is not None and controller.acting

    # What is told to it.

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """LiveKit changed something. See the class."""
        controller = self._controllers.get(room)
        if controller is not None:
            controller.happened(event)

    def watched(self, live: LiveRoom) -> None:
        """A room is watched. See the class."""
        known = self._controllers.get(live.name)
        if self._closed or live.closed or (known is not None and known.live is live):
            return
        if not self._concerned(live.name):
            return
        if known is not None:
            self._end(live.name)
        controller = self._controllers[live.name] = RoomController(self._means, live, self._moved)
        with contextlib.suppress(Draining):
            controller.begin()
            self._tasks.spawn(self._follow(controller), name=f"follow {live.name}")

    def missed(self, room: str) -> None:
        """LiveKit does not have the room: nobody is in it to whom anything is owed. See the class."""
        if room not in self._controllers and self._means.takings.concerns(room):
            self._spawn_forget(room)

    def looked(self, live: LiveRoom, _: object) -> None:
        """The debug view was looked at. See the class."""
        controller = self._controllers.get(live.name)
        if controller is not None and controller.live is live:
            controller.looked()

    def _changed(self, room: str, identity: str) -> None:
        self.kick(room, identity)

    def _chosen(self, room: str, identity: str, track_sid: str) -> None:
        controller = self._controllers.get(room)
        if controller is None:
            self.kick(room, identity)
        else:
            controller.mark(identity, [track_sid])

    def _reported(self, room: str, identity: str) -> None:
        controller = self._controllers.get(room)
        if controller is None:
            self.kick(room, identity)
        else:
            controller.told(identity)

    def _took(self, room: str, identity: str, track_sids: Collection[str], subscribe: bool) -> None:
        controller = self._controllers.get(room)
        if controller is not None:
            controller.took(identity, track_sids, subscribe=subscribe)

    # The rooms.

    def _concerned(self, room: str) -> bool:
        means = self._means
        return means.concerns(room) or means.takings.concerns(room) or means.limits.wanted(room)

    def _moved(self, controller: RoomController) -> None:
        """Something came about in the room: there may be nothing to do any more."""
        room = controller.live.name
        if self._controllers.get(room) is controller and not self._concerned(room) and controller.at_rest:
            self._end(room)
            self._settle(room)

    def _settle(self, room: str) -> None:
        """Lets go of a room that nothing concerns."""
        if not self._concerned(room) and room not in self._controllers:
            self._means.standing.release(OWNER, room)

    async def _follow(self, controller: RoomController) -> None:
        """To the end of the room, or of the controller."""
        room = controller.live.name
        await controller.finished()
        if self._controllers.get(room) is not controller:
            return
        del self._controllers[room]
        await controller.aclose()
        self._means.limits.forget(room)
        if room not in self._controllers:
            await self._forget(room)

    def _end(self, room: str) -> None:
        controller = self._controllers.pop(room)
        with contextlib.suppress(Draining):
            self._tasks.spawn(controller.aclose(), name=f"let go of {room}")

    def _spawn_forget(self, room: str) -> None:
        with contextlib.suppress(Draining):
            self._tasks.spawn(self._forget(room), name=f"forget {room}")

    async def _forget(self, room: str) -> None:
        try:
            await self._means.takings.forget(room)
        except StoreError as error:
            log.warning("subscription_taken_not_forgotten", room=room, reason=str(error))
        self.kick(room)
