"""What sessions that pull measure of what they receive, as readings. Pure.

They are subscribers like any other, though hidden: their numbers are true of the way from LiveKit to this service.
"""

from collections.abc import Iterator, Mapping

from track.media.v1.media_service_pb2 import PullSessionStats
from track.v1.track_pb2 import Track
from track_server.quality.core.measuring.reading import Flow, Hop, Reading, Source
from track_server.quality.messages import MEDIA
from track_server.quality.sources.client import client_readings


def pull_readings(
    stats: PullSessionStats, identity: str, tracks: Mapping[str, Track], arrival_s: float
) -> Iterator[tuple[Flow, list[Reading]]]:
    """A reading for each RTP stream of each track that is in the room, of statistics that arrived at ``arrival_s``
    (monotonic). ``identity``: of the session's participant. ``tracks``: those of the room, by SID.
    """
    for each in stats.tracks:
        track = tracks.get(each.track_sid)
        media = MEDIA.get(track.type) if track is not None else None
        if media is not None:
            flow = Flow(each.track_sid, Hop.DOWNLINK, identity)
            yield flow, client_readings(each, media, Source.SUBSCRIBER_STATS, arrival_s)
