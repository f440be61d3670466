"""What a pulling session measures of the tracks that it is subscribed to."""

import asyncio
import time
from collections.abc import Callable

import structlog
from livekit import rtc

from track.media.v1.media_service_pb2 import PullSessionStats
from track_server.media.pulling.stats import RoundTrip, received

log = structlog.get_logger(__name__)


class Received:
    """Reads the statistics of all `tracks`."""

    def __init__(self, tracks: Callable[[], list[rtc.Track]]) -> None:
        self._tracks = tracks
        self._round_trip = RoundTrip()

    async def read(self) -> PullSessionStats:
        """As they are now; without those of which nothing came."""
        tracks = self._tracks()
        results = await asyncio.gather(*(track.get_stats() for track in tracks), return_exceptions=True)
        message = PullSessionStats()
        for track, result in zip(tracks, results, strict=True):
            if isinstance(result, BaseException):
                log.info("stats_unreadable", track_sid=track.sid, cause=repr(result))
                continue
            rtt_ms = self._round_trip.at(result, time.monotonic())
            found = received(track.sid, result, rtt_ms, time.time_ns())
            if found is not None:
                message.tracks.append(found)
        return message
