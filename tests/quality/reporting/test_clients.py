"""For how long it is known what clients have told."""

from livekit.protocol import models

from tests.quality.rooms import WatchedRooms
from tests.quality.samples import ManualClock, settle
from track.v1.track_pb2 import Participant
from track_server.quality.core.measuring.reading import Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.reporting.clients import Clients
from track_server.rooms.room import LiveRoom


def guest(room: LiveRoom) -> Participant:
    return room.model.participants["guest"]


async def test_what_a_connection_told_is_known_while_the_room_is_assessed_and_it_is_there() -> None:
    rooms = WatchedRooms()
    async with Assessing(rooms, clock=ManualClock(), linger_s=0.0) as assessing:
        clients = Clients(assessing, Source.REPORTED)
        room = rooms.watch({"host": ["TR_a1"], "guest": []})
        # Nobody follows the room: nothing is kept for it.
        assert clients.of(room, guest(room)) is None
        assert clients._known == {}
        assessing.follow("me", "room")
        first = clients.of(room, guest(room))
        assert first is not None
        assert clients.of(room, guest(room)) is first
        # The same participant, come anew: another connection, of which nothing was told; the one before is forgotten.
        gone = guest(room).sid
        room.update([models.ParticipantInfo(identity="guest", sid="PA_anew", state=models.ParticipantInfo.ACTIVE)])
        again = clients.of(room, guest(room))
        assert again not in (None, first)
        assert gone != guest(room).sid
        assert clients._known == {"room": {"PA_anew": again}}
        assessing.release("me", "room")
        await settle()
        assert clients._known == {}
