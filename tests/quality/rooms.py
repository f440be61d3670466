"""Live rooms, filled by hand as a watcher would."""

from collections.abc import Callable

from livekit.protocol import models, rtc

from track.v1.event_pb2 import RoomEvent
from track_server.rooms.model import Binding
from track_server.rooms.room import WATCHED, LiveRoom

OnEvent = Callable[[str, RoomEvent], None]

LAYERS = [
    models.VideoLayer(quality=quality, width=width, height=width * 9 // 16, bitrate=800 * width)
    for quality, width in ((models.LOW, 320), (models.MEDIUM, 640), (models.HIGH, 1280))
]

TYPES = {"a": models.TrackType.AUDIO, "v": models.TrackType.VIDEO, "d": models.TrackType.DATA}


def live_room(tracks: dict[str, list[str]], name: str = "room", on_event: OnEvent = lambda *_: None) -> LiveRoom:
    """A watched room: identity to track SIDs. The letter after `TR_` says audio, video or data."""
    room = LiveRoom(name, 100, on_event)
    room.seen("RM_1", infos(tracks), WATCHED)
    return room


class WatchedRooms:
    """Rooms that are watched until they close, as the service's own `Rooms` tells of them."""

    def __init__(self) -> None:
        self._rooms: dict[str, LiveRoom] = {}
        self._listeners: list[OnEvent] = []

    def watch(self, tracks: dict[str, list[str]], name: str = "room") -> LiveRoom:
        """Another life of the room, or its first."""
        room = self._rooms[name] = live_room(tracks, name, self._tell)
        return room

    def drop(self, name: str) -> None:
        """Nobody watches it any more."""
        del self._rooms[name]

    def followed(self, name: str) -> LiveRoom | None:
        room = self._rooms.get(name)
        return room if room is not None and not room.closed else None

    def listen(self, listener: OnEvent) -> None:
        self._listeners.append(listener)

    def _tell(self, name: str, event: RoomEvent) -> None:
        for listener in self._listeners:
            listener(name, event)


def infos(tracks: dict[str, list[str]]) -> list[models.ParticipantInfo]:
    return [
        models.ParticipantInfo(
            sid=f"PA_{identity}",
            identity=identity,
            state=models.ParticipantInfo.ACTIVE,
            tracks=[
                models.TrackInfo(sid=sid, type=TYPES[sid[3]], layers=LAYERS if sid[3] == "v" else ()) for sid in sids
            ],
        )
        for identity, sids in tracks.items()
    ]


def bind(room: LiveRoom, sid: str, publication_id: str) -> None:
    room.bind(sid, Binding(publication_id))


def rate(room: LiveRoom, identity: str, quality: "models.ConnectionQuality", score: float) -> None:
    room.rate([rtc.ConnectionQualityInfo(participant_sid=f"PA_{identity}", quality=quality, score=score)])
