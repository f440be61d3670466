"""What goes beyond the limits of tracks in a watched room: what others publish is told, as it cannot be refused.

No bitrate is among it: what others send is not known here, and what they declare is no bound on it.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from track.v1 import event_pb2
from track_server.config.limits import LimitSettings
from track_server.rooms.model import RoomModel
from track_server.rooms.room import ExcessKey
from track_server.rooms.rooms import Rooms

_OF_TRACKS: Final = {"track_published", "track_unpublished", "track_updated"}


def excesses(model: RoomModel, limits: LimitSettings) -> dict[ExcessKey, event_pb2.LimitExceeded]:
    """All that is beyond a limit in the room as it is. Pure."""
    found: dict[ExcessKey, event_pb2.LimitExceeded] = {}

    def compare(limit: str, value: int, identity: str = "", sid: str = "") -> None:
        most = getattr(limits, limit)
        if value > most:
            found[limit, identity, sid] = event_pb2.LimitExceeded(
                limit=limit, limit_value=most, value=value, participant_identity=identity, track_sid=sid
            )

    compare("max_tracks_per_room", len(model.tracks))
    for identity, count in Counter(track.participant_identity for track in model.tracks.values()).items():
        compare("max_tracks_per_participant", count, identity)
    for track in model.tracks.values():
        compare("max_video_pixels", track.width * track.height, track.participant_identity, track.sid)
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
        if event.WhichOneof("change") not in _OF_TRACKS:
            return
        live = self._rooms.find(room)
        if live is None:
            return
        for excess in live.exceed(excesses(live.model, self._limits)):
            self._exceeded(excess.limit)
