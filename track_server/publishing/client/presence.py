"""Whether the participant whose client publishes is in its room, and in which connection."""

from track.v1 import track_pb2
from track_server.control.commands import Target
from track_server.livekit.api import LiveKitApi
from track_server.rooms import reading
from track_server.rooms.room import LiveRoom


class Presence:
    """Of one participant of a room."""

    def __init__(self, api: LiveKitApi, room: str, identity: str) -> None:
        self._api = api
        self._room = room
        self._identity = identity
        self._signalled = False
        """Whether the room was seen with the participant in it, since it was last without."""
        self.removed = False
        """Somebody removed the participant from the room."""

    async def participant(self, live: LiveRoom) -> track_pb2.Participant | None:
        """The participant, where it is there. Raises LiveKitUnavailable."""
        known = live.model.participants.get(self._identity)
        if known is not None:
            self._signalled = True
        elif not self._signalled:
            # It may have joined a moment ago, which signalling does not tell yet.
            known = (await reading.roster(self._api, self._room)).participants.get(self._identity)
        return known

    def lost(self) -> None:
        """It is not there, or does not answer."""
        self._signalled = False

    def holds(self, live: LiveRoom, target: Target) -> bool:
        """Whether the connection is still the participant's, as far as is known: a new one may not be signalled yet."""
        known = live.model.participants.get(self._identity)
        return not live.closed and not self.removed and (known is None or known.sid == target.sid)
