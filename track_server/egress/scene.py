"""What there is to record of what was asked for. Pure."""

from collections.abc import Callable, Mapping

from track.v1.egress_pb2 import TrackEgress
from track.v1.publication_pb2 import PUBLICATION_STATE_ENDED, Publication
from track.v1.track_pb2 import Track
from track_server.egress.course import ROOM_CLOSED, TRACK_ENDED, Scene

FindPublication = Callable[[str, str], Publication | None]
"""The publication of a room and id."""


def scene_of(egress: TrackEgress, tracks: Mapping[str, Track] | None, find: FindPublication) -> Scene:
    """What there is now. ``tracks``: those of the room, by SID; None where the room is closed."""
    if tracks is None:
        return Scene(over=ROOM_CLOSED)
    if egress.publication_id:
        publication = find(egress.room, egress.publication_id)
        if publication is None or publication.state == PUBLICATION_STATE_ENDED:
            return Scene(over=TRACK_ENDED)
        track_sid = publication.track_sid if publication.track_sid in tracks else ""
    elif egress.track_sid in tracks:
        track_sid = egress.track_sid
    else:
        return Scene(over=TRACK_ENDED)
    if not egress.audio_publication_id:
        audio_sid = egress.audio_track_sid
        if audio_sid and audio_sid not in tracks:
            return _without_audio(egress, track_sid)
        return Scene(track_sid, audio_sid)
    audio = find(egress.room, egress.audio_publication_id)
    if audio is None or audio.state == PUBLICATION_STATE_ENDED:
        return _without_audio(egress, track_sid)
    here = audio.track_sid in tracks
    return Scene(track_sid, audio.track_sid if here else "", audio_awaited=not here)


def _without_audio(egress: TrackEgress, track_sid: str) -> Scene:
    """The audio track is over: what was to begin with it does not, what has begun goes on without."""
    return Scene(track_sid) if egress.parts else Scene(over=TRACK_ENDED)
