"""Setting, showing and clearing focuses."""

from track.v1 import event_pb2
from track.v1.access_pb2 import PERMISSION_SUBSCRIBE
from track.v1.subscription_pb2 import (
    ClearFocusRequest,
    Focus,
    GetFocusRequest,
    GetFocusResponse,
    SetFocusRequest,
)
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.rules import is_admin
from track_server.errors import FocusNotFound, InvalidField, PermissionDenied
from track_server.rooms.rooms import Rooms
from track_server.subscription.focus.checking import check
from track_server.subscription.focus.focuses import Focuses


class FocusRequests:
    """Answers SetFocus, GetFocus and ClearFocus."""

    def __init__(self, rooms: Rooms, access: Access, focuses: Focuses) -> None:
        self._rooms = rooms
        self._access = access
        self._focuses = focuses

    async def set(self, principal: Principal, request: SetFocusRequest, cause: event_pb2.EventCause) -> Focus:
        """The focus as it is kept; with ``validate_only`` as it would be, without `update_time`.

        Raises RoomNotFound, PermissionDenied, InvalidField, InvalidOptions, TrackNotFound, LimitExceeded,
        LiveKitUnavailable, StoreError.
        """
        room, identity = request.room, request.participant_identity
        async with self._rooms.watch(room) as live:
            self._focuses.met(live)
            await self._require(principal, room, identity)
            focus = Focus()
            focus.CopyFrom(request.focus)
            for name, value in (("room", room), ("participant_identity", identity)):
                if getattr(focus, name) not in ("", value):
                    raise InvalidField(f"the focus names another `{name}` than the request", field=f"focus.{name}")
                setattr(focus, name, value)
            focus.ClearField("update_time")
            check(focus, live.model, identity)
            self._focuses.require_place(room, identity)
            return focus if request.validate_only else await self._focuses.put(live, focus, cause)

    async def get(self, request: GetFocusRequest) -> GetFocusResponse:
        """Raises RoomNotFound, FocusNotFound, LiveKitUnavailable."""
        room, identity = request.room, request.participant_identity
        async with self._rooms.watch(room) as live:
            self._focuses.met(live)
            focus = self._focuses.find(room, identity) or self._focuses.find(room, "")
            if focus is None:
                raise FocusNotFound(f"room {room!r} has no focus", field="room")
            return GetFocusResponse(focus=focus, tracks=self._focuses.tracks(room, identity))

    async def clear(
        self, principal: Principal, request: ClearFocusRequest, cause: event_pb2.EventCause
    ) -> Focus | None:
        """The focus as it was last; None where there was none.

        Raises RoomNotFound, PermissionDenied, LiveKitUnavailable, StoreError.
        """
        room, identity = request.room, request.participant_identity
        async with self._rooms.watch(room) as live:
            self._focuses.met(live)
            await self._require(principal, room, identity)
            if request.validate_only:
                return self._focuses.find(room, identity)
            return await self._focuses.clear(room, identity, cause)

    async def _require(self, principal: Principal, room: str, identity: str) -> None:
        """Raises PermissionDenied. The room's focus is everybody's: who may choose for itself may not set it."""
        if not identity and principal.grants.room == room and not is_admin(principal, room):
            raise PermissionDenied("the focus of the room needs roomAdmin")
        await self._access.require(principal, Question(PERMISSION_SUBSCRIBE, room, identity))
