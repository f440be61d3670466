"""What LiveKit lets a participant do in its room. Pure."""

from typing import Final

from livekit.protocol import models

from track.v1.track_pb2 import Participant, Track, TrackSource, TrackType
from track_server.rooms.convert import SOURCES

_ALL: Final = (
    models.TrackSource.CAMERA,
    models.TrackSource.MICROPHONE,
    models.TrackSource.SCREEN_SHARE,
    models.TrackSource.SCREEN_SHARE_AUDIO,
)


def may_publish(participant: Participant, kind: "TrackType.ValueType", source: "TrackSource.ValueType") -> bool:
    """Whether the participant may publish a track of that type and source; that of a data track does not matter."""
    allowed = participant.permission
    if kind == TrackType.TRACK_TYPE_DATA:
        return allowed.can_publish_data
    return allowed.can_publish and (not allowed.can_publish_sources or source in allowed.can_publish_sources)


def without(permission: models.ParticipantPermission, track: Track) -> models.ParticipantPermission:
    """The permission, all of it, but for publishing what is of the track's source, or data."""
    result = models.ParticipantPermission()
    result.CopyFrom(permission)
    if track.type == TrackType.TRACK_TYPE_DATA:
        result.can_publish_data = False
        return result
    # To LiveKit an empty list means all, so all but one is a list of the others.
    allowed = result.can_publish_sources or _ALL
    kept = [source for source in allowed if SOURCES.get(source, TrackSource.TRACK_SOURCE_UNSPECIFIED) != track.source]
    if kept:
        result.ClearField("can_publish_sources")
        result.can_publish_sources.extend(kept)
    else:
        result.can_publish = False
    return result
