"""What companions measure: asked for while somebody follows the room, and brought into its assessment."""

import contextlib
from collections.abc import Sequence
from typing import Final

import structlog

from track.v1.quality_stats_pb2 import TrackStats
from track.v1.track_pb2 import Participant
from track_server.errors import Draining, TrackError
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed
from track_server.quality.core.measuring.reading import Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.quality.reporting.clients import Clients
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.subscription.states.attendance import Attendance
from track_server.subscription.states.states import SubscriberStates

log = structlog.get_logger(__name__)


class CompanionStats:
    """Has companions measure where somebody follows the room. Its methods never wait."""

    def __init__(self, rooms: Rooms, assessing: Assessing, attendance: Attendance, states: SubscriberStates) -> None:
        self._rooms: Final = rooms
        self._assessing: Final = assessing
        self._attendance: Final = attendance
        self._states: Final = states
        self._clients: Final = Clients(assessing, Source.COMPANION)
        assessing.listen(self._ticked)
        assessing.closing(self._ended)
        attendance.listen(self._told)

    def _ticked(self, found: RoomAssessment, _: Assessed, __: Moment) -> None:
        live = self._rooms.followed(found.name)
        if live is not None:
            with contextlib.suppress(Draining):
                self._attendance.follow(self, live, stats=True)

    def _ended(self, found: RoomAssessment) -> None:
        with contextlib.suppress(Draining):
            self._attendance.unfollow(self, found.name)

    def _told(self, live: LiveRoom, participant: Participant, stats: Sequence[TrackStats]) -> None:
        """See OnStats. What cannot be true is left out."""
        room, now = live.name, self._assessing.clock.now()
        client = self._clients.of(live, participant)
        if client is None:
            return
        client.place(stats, now)
        state = self._states.of(room, participant.identity)
        load = state.cpu_load if state is not None and state.HasField("cpu_load") else None
        for each in stats:
            try:
                flow, readings = client.take(each, live.model.tracks, now, cpu_load=load)
            except TrackError as error:
                log.debug("companion_stats_refused", room=room, participant=participant.identity, reason=error.message)
                continue
            self._assessing.add(room, flow, readings)
