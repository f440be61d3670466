"""Whose client can be asked."""

from typing import Final

from track.v1 import track_pb2
from track.v1.track_pb2 import Participant
from track_server.control.commands import Target
from track_server.errors import CompanionMissing
from track_server.rooms.room import LiveRoom

# Others have no RPC of LiveKit, and would only be waited for.
_ASKED: Final = (track_pb2.PARTICIPANT_KIND_STANDARD, track_pb2.PARTICIPANT_KIND_AGENT)


def target_of(live: LiveRoom, identity: str) -> Target:
    """The participant's connection, as the room shows it. Raises CompanionMissing where it has no client to be asked,
    or is not in the room."""
    return connection_of(live.name, live.model.participants.get(identity))


def connection_of(room: str, participant: Participant | None) -> Target:
    """As `target_of`, of a participant that is known from elsewhere."""
    if participant is None or participant.kind not in _ASKED:
        raise CompanionMissing("the participant has no client that could be asked")
    return Target(room, participant.identity, participant.sid)
