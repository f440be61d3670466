"""How a track is unmuted: by LiveKit where it lets it, else by whoever publishes it."""

from collections.abc import Callable
from typing import Protocol

from track.control.v1.control_pb2 import COMMAND_STATUS_DONE
from track.v1 import publication_pb2, track_pb2
from track_server.control.companion import Companion
from track_server.control.targets import target_of
from track_server.deadline import Deadline
from track_server.errors import CompanionMissing, LiveKitUnavailable, RemoteUnmuteDisabled, TargetPermission, TrackError
from track_server.livekit.api import LiveKitApi, LiveKitRefusal
from track_server.rooms.permissions import may_publish
from track_server.rooms.room import LiveRoom

ByHost = Callable[[str, str], bool]
"""Has the session that hosts a publication (room, id) unmute it; False where this service does not host it."""


class Stalls(Protocol):
    """The publications whose frames the caller pushes: their tracks are muted while they stall."""

    def stalling(self, room: str, publication_id: str) -> publication_pb2.Publication | None:
        """The publication, or None where it does not stall. Its `muted` is what it will be when frames come again."""

    async def meant(self, room: str, publication_id: str, *, muted: bool) -> publication_pb2.Publication | None:
        """Keeps in mind whether it is to be muted then. None where it does not stall, so that it is LiveKit's to do."""


class Unmuting:
    """Unmutes tracks. ``by_host``: LiveKit lets a publisher unmute itself in any case."""

    def __init__(self, api: LiveKitApi, companion: Companion, by_host: ByHost, stalls: Stalls) -> None:
        self._api = api
        self._companion = companion
        self._by_host = by_host
        self._stalls = stalls

    async def unmute(
        self, live: LiveRoom, track: track_pb2.Track, deadline: Deadline, field: str = ""
    ) -> publication_pb2.Stage.ValueType:
        """Asks for it; how far it is known to have got without a look at the room.

        A publication that stalls is unmuted when frames come again. Where nobody does it, the next `track_unmuted` of
        the track is the participant's own doing.

        Raises RemoteUnmuteDisabled where LiveKit forbids it and nobody else can, ConsentRefused, CompanionFailed,
        LiveKitUnavailable.
        """
        if await self._stalls.meant(live.name, track.publication_id, muted=False) is not None:
            return publication_pb2.STAGE_REQUESTED
        try:
            await self._api.mute_track(live.name, track.participant_identity, track.sid, muted=False)
        except LiveKitRefusal as error:
            if error.twirp_code != "failed_precondition":
                raise
            if track.publication_id and self._by_host(live.name, track.publication_id):
                return publication_pb2.STAGE_REQUESTED
            try:
                return await self._by_client(live, track, deadline, field)
            except TrackError:
                live.causes.forget("track_unmuted", track.sid)
                raise
        return publication_pb2.STAGE_REQUESTED

    async def _by_client(
        self, live: LiveRoom, track: track_pb2.Track, deadline: Deadline, field: str
    ) -> publication_pb2.Stage.ValueType:
        """The client's own companion may do it, and ask its user."""
        try:
            target = target_of(live, track.participant_identity)
            reply = await self._companion.set_muted(target, track.sid, deadline, muted=False)
        except (CompanionMissing, LiveKitUnavailable) as error:
            raise RemoteUnmuteDisabled(
                "LiveKit forbids unmuting from the server; its configuration needs room.enable_remote_unmute: true",
                field=field,
                metadata={"livekit_setting": "room.enable_remote_unmute"},
            ) from error
        done = reply.status == COMMAND_STATUS_DONE
        return publication_pb2.STAGE_ACKNOWLEDGED if done else publication_pb2.STAGE_REQUESTED


def require_publishable(live: LiveRoom, track: track_pb2.Track, field: str = "") -> None:
    """Raises TargetPermission where the participant may not publish what the track is."""
    participant = live.model.participants.get(track.participant_identity)
    if participant is not None and not may_publish(participant, track.type, track.source):
        raise TargetPermission(f"participant {track.participant_identity!r} may not publish this source", field=field)
