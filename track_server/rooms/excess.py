"""What goes beyond the limits of tracks in a watched room: what others publish is told, as it cannot be refused.

No bitrate is among it: what others send is not known here, and what they declare is no bound on it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from track.v1 import event_pb2, track_pb2
from track_server.config.limits import LimitSettings
from track_server.rooms.model import RoomModel
from track_server.rooms.room import ExcessKey
from track_server.rooms.rooms import Rooms

_OF_TRACKS: Final = {"track_published", "track_unpublished", "track_updated"}


def excesses(
    model: RoomModel, limits: LimitSettings, track: track_pb2.Track
) -> Mapping[ExcessKey, event_pb2.LimitExceeded | None]:
    """How the room stands to each limit that the track, which changed or is gone, may touch; None: within. Pure."""
    found: dict[ExcessKey, event_pb2.LimitExceeded | None] = {}

    def compare(limit: str, value: int, identity: str = "", sid: str = "") -> None:
        most = getattr(limits, limit)
        found[limit, identity, sid] = (
            event_pb2.LimitExceeded(
                limit=limit, limit_value=most, value=value, participant_identity=identity, track_sid=sid
            )
            if value > most
            else None
        )

    identity = track.participant_identity
    compare("max_tracks_per_room", len(model.tracks))
    compare("max_tracks_per_participant", len(model.tracks_of(identity)), identity)
    known = model.tracks.get(track.sid)
    compare("max_video_pixels", 0 if known is None else known.width * known.height, identity, track.sid)
    return found


class ExcessWatch:
    """Follows the watched rooms: an event in a room when it goes beyond a limit, once until it was within.

    ``happened`` is a listener of ``rooms``. ``exceeded``: told the limit's name each time.
    """

    def __init__(self, rooms: Rooms, limits: LimitSettings, exceeded: Callable[[str], None]) -> None:
        self._rooms = rooms
        self._limits = limits
        self._exceeded = exceeded

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """Something changed in the room."""
        change = event.WhichOneof("change")
        if change not in _OF_TRACKS:
            return
        live = self._rooms.find(room)
        if live is None:
            return
        for excess in live.exceed(excesses(live.model, self._limits, getattr(event, change))):
            self._exceeded(excess.limit)
