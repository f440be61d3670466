"""The rooms about whose quality something is done."""

import contextlib
from typing import Final

from track.v1.event_pb2 import RoomEvent
from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks
from track_server.quality.acting.means import Means
from track_server.quality.acting.room import RoomActing
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.assessment import Assessed
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.quality.policies.policies import Policies
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing

OWNER: Final = "quality policies"
"""Under which rooms are wanted, followed and limited."""


class Acting(Closing):
    """Owner of what is done in all rooms, `async with`.

    A room with a policy is kept watched, and its quality followed; where a policy allows something the room has a
    controller of subscriptions too, and the server that has its lease acts.
    """

    def __init__(self, means: Means, standing: Standing) -> None:
        self._means = means
        self._standing = standing
        self._rooms: dict[str, RoomActing] = {}
        self._tasks = Tasks()
        self._closed = False

    def listen(self, rooms: Rooms, policies: Policies, assessing: Assessing) -> None:
        """Hears of everything from now on."""
        policies.listen(self._policies_changed)
        rooms.listen(self._happened)
        assessing.adapt_with(self._adaptation)
        assessing.listen(self._ticked)
        assessing.closing(self._ended)

    async def aclose(self) -> None:
        """Lets go of all rooms; what is limited stays as it is. May be called twice."""
        self._closed = True
        rooms, self._rooms = list(self._rooms.values()), {}
        for room in rooms:
            await room.aclose()
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins with the rooms that something concerns. What adaptation itself had limited is derived anew."""
        for room in {*self._means.policies.rooms(), *self._means.hands.rooms()}:
            self._look(room)
            if (found := self._rooms.get(room)) is not None:
                # It may be watched already.
                found.refresh()

    def of(self, room: str) -> RoomActing:
        """What is done in the room, from now on. Raises Draining."""
        found = self._rooms.get(room)
        if found is None:
            if self._closed:
                raise Draining("the server is shutting down")
            found = self._rooms[room] = RoomActing(room, self._means, self.settle)
            self._means.assessing.readapt(room)
        return found

    def hands_changed(self, room: str) -> None:
        """Listens to Hands."""
        if not self._closed:
            self._look(room)
            if (found := self._rooms.get(room)) is not None:
                found.refresh()
                self.settle(room)

    # What is told to it.

    def _policies_changed(self, room: str) -> None:
        if self._closed:
            return
        found = self._rooms.get(room)
        if found is not None:
            found.policies_changed()
        self._look(room)
        self.settle(room)

    def _adaptation(self, room: str) -> Adaptation | None:
        found = self._rooms.get(room)
        return found.adaptation if found is not None else None

    def _ticked(self, room: RoomAssessment, assessed: Assessed, moment: Moment) -> None:
        if (found := self._rooms.get(room.name)) is not None:
            found.ticked(assessed, moment)

    def _ended(self, room: RoomAssessment) -> None:
        if (found := self._rooms.get(room.name)) is not None:
            found.ended()
            self.settle(room.name)

    def _happened(self, room: str, event: RoomEvent) -> None:
        found = self._rooms.get(room)
        if found is None:
            return
        match event.WhichOneof("change"):
            case "track_published" | "track_updated":
                found.refresh()
            case "track_unpublished":
                found.unpublished(event.track_unpublished.sid)
            case "participant_left":
                found.left(event.participant_left.identity)
            case _:
                pass

    def _look(self, room: str) -> None:
        """What concerns the room may be something else."""
        means = self._means
        ruled, by_hand = means.policies.concerns(room), means.hands.concerns(room)
        if ruled or by_hand:
            self.of(room)
        if any(policy.allowed_actions for policy in means.policies.of(room)):
            means.terms.want(OWNER, room)
        else:
            means.terms.release(OWNER, room)
        if ruled:
            self._standing.want(OWNER, room)
            means.assessing.follow(OWNER, room)
        else:
            self._standing.release(OWNER, room)
            means.assessing.release(OWNER, room)

    def settle(self, room: str) -> None:
        """Lets go of the room, if nothing is done in it any more."""
        means, found = self._means, self._rooms.get(room)
        if found is None or means.policies.concerns(room) or means.hands.concerns(room) or not found.idle:
            return
        del self._rooms[room]
        means.assessing.readapt(room)
        with contextlib.suppress(Draining):
            self._tasks.spawn(found.aclose(), name=f"let go of quality in {room}")
