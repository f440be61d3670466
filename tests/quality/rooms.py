"""Live rooms, filled by hand as a watcher would."""

from livekit.protocol import models, rtc

from track_server.rooms.model import Binding
from track_server.rooms.room import WATCHED, LiveRoom

TYPES = {"a": models.TrackType.AUDIO, "v": models.TrackType.VIDEO, "d": models.TrackType.DATA}


def live_room(tracks: dict[str, list[str]], name: str = "room") -> LiveRoom:
    """A watched room: identity to track SIDs. The letter after `TR_` says audio, video or data."""
    room = LiveRoom(name, 100, lambda *_: None)
    room.seen("RM_1", infos(tracks), WATCHED)
    return room


def infos(tracks: dict[str, list[str]]) -> list[models.ParticipantInfo]:
    return [
        models.ParticipantInfo(
            sid=f"PA_{identity}",
            identity=identity,
            state=models.ParticipantInfo.ACTIVE,
            tracks=[models.TrackInfo(sid=sid, type=TYPES[sid[3]]) for sid in sids],
        )
        for identity, sids in tracks.items()
    ]


def bind(room: LiveRoom, sid: str, publication_id: str) -> None:
    room.bind(sid, Binding(publication_id))


def rate(room: LiveRoom, identity: str, quality: "models.ConnectionQuality", score: float) -> None:
    room.rate([rtc.ConnectionQualityInfo(participant_sid=f"PA_{identity}", quality=quality, score=score)])
