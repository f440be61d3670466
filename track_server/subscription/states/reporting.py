"""ReportSubscriberState: an app, or an admin, reports in the place of a companion."""

from track.v1 import access_pb2, track_pb2
from track.v1.subscription_pb2 import ReportSubscriberStateRequest, ReportSubscriberStateResponse
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import InvalidField, InvalidOptions, ParticipantNotFound, TargetPermission
from track_server.rooms.reading import Reader, find_track
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.subscription.states.states import SubscriberStates


class StateReporting:
    """Answers ReportSubscriberState."""

    def __init__(self, rooms: Rooms, reader: Reader, access: Access, states: SubscriberStates) -> None:
        self._rooms = rooms
        self._reader = reader
        self._access = access
        self._states = states

    async def report(
        self, principal: Principal, request: ReportSubscriberStateRequest
    ) -> ReportSubscriberStateResponse:
        """Takes the report.

        Raises InvalidField, RoomNotFound, PermissionDenied, ParticipantNotFound, TargetPermission, TrackNotFound,
        InvalidOptions, LiveKitUnavailable.
        """
        identity = request.participant_identity or principal.identity
        if not identity:
            raise InvalidField("say whose state it is", field="participant_identity")
        question = Question(access_pb2.PERMISSION_SUBSCRIBE, request.room, identity)
        async with self._rooms.watch(request.room) as live:
            await self._access.require(principal, question)
            participant = await self._reader.participant(request.room, identity)
            if participant is None:
                raise ParticipantNotFound(f"no participant {identity!r} in the room", field="participant_identity")
            if not participant.permission.can_subscribe:
                message = f"participant {identity!r} may not subscribe"
                self._access.refused(principal, question, message)
                raise TargetPermission(message, field="participant_identity")
            for index, viewport in enumerate(request.state.viewports):
                _check_shown(live, identity, viewport.track_sid, f"state.viewports[{index}].track_sid")
            state = self._states.report(request.room, identity, participant.sid, request.state, called=True)
            return ReportSubscriberStateResponse(
                state=state, report_time=self._states.reported_at(request.room, identity)
            )


def _check_shown(live: LiveRoom, identity: str, sid: str, field: str) -> None:
    track = find_track(live.model.tracks, sid, field)
    if track.type != track_pb2.TRACK_TYPE_VIDEO:
        raise InvalidOptions("a track without pictures is not shown", field=field)
    if track.participant_identity == identity:
        raise InvalidOptions("a participant does not receive its own track", field=field)
