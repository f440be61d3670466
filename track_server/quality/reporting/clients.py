"""What participants' clients have told, for as long as their room is assessed."""

from typing import Final

from track.v1.track_pb2 import Participant
from track_server.quality.core.measuring.reading import Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.quality.sources.client import ClientStats
from track_server.rooms.room import LiveRoom


class Clients:
    """Owner of what clients have told as one source, by room and connection, over all messages and calls.

    ``batched``: see ClientStats.
    """

    def __init__(self, assessing: Assessing, source: Source, *, batched: bool = False) -> None:
        self._assessing: Final = assessing
        self._source: Final = source
        self._batched: Final = batched
        self._known: dict[str, dict[str, ClientStats]] = {}
        """By room and SID of the participant's connection."""
        assessing.closing(self._ended)

    def of(self, live: LiveRoom, participant: Participant) -> ClientStats | None:
        """What that connection's has told; None where nobody follows the room. Connections that are gone are
        forgotten."""
        if self._assessing.of(live.name) is None:
            return None
        known = self._known.setdefault(live.name, {})
        client = known.get(participant.sid)
        if client is None:
            there = {each.sid for each in live.model.participants.values()}
            for sid in known.keys() - there:
                del known[sid]
            client = known[participant.sid] = ClientStats(participant.identity, self._source, batched=self._batched)
        return client

    def _ended(self, found: RoomAssessment) -> None:
        self._known.pop(found.name, None)
