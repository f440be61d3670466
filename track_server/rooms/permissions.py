"""What LiveKit lets a participant do in its room. Pure."""

from track.v1.track_pb2 import Participant, TrackSource, TrackType


def may_publish(participant: Participant, kind: "TrackType.ValueType", source: "TrackSource.ValueType") -> bool:
    """Whether the participant may publish a track of that type and source; that of a data track does not matter."""
    allowed = participant.permission
    if kind == TrackType.TRACK_TYPE_DATA:
        return allowed.can_publish_data
    return allowed.can_publish and (not allowed.can_publish_sources or source in allowed.can_publish_sources)
