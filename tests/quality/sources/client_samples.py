"""Statistics as clients tell them, made by hand, and the tracks that they may be of."""

from typing import Any

from track.v1.quality_stats_pb2 import StreamStats, TrackStats
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_DATA, TRACK_TYPE_VIDEO, Track
from track_server.quality.clock import Moment

NOW = Moment(time_s=1_800_000_000.0, monotonic_s=5_000.0)
SID, SOUND, DATA, OTHER = "TR_video", "TR_sound", "TR_data", "TR_other"
TRACKS = {
    SID: Track(sid=SID, type=TRACK_TYPE_VIDEO, participant_identity="bob"),
    SOUND: Track(sid=SOUND, type=TRACK_TYPE_AUDIO, participant_identity="bob"),
    DATA: Track(sid=DATA, type=TRACK_TYPE_DATA, participant_identity="bob"),
    OTHER: Track(sid=OTHER, type=TRACK_TYPE_VIDEO, participant_identity="alice"),
}


def stats(at: float = 0.0, *, sid: str = SID, sent: bool = False, **stream: Any) -> TrackStats:
    """One stream, taken ``at`` seconds from NOW."""
    made = TrackStats(track_sid=sid, sent=sent, streams=[StreamStats(**{"ssrc": 7, **stream})])
    made.measure_time.FromNanoseconds(round((NOW.time_s + at) * 1e9))
    return made


def later(seconds: float) -> Moment:
    """So long after NOW."""
    return Moment(NOW.time_s + seconds, NOW.monotonic_s + seconds)
