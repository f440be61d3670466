"""What hosted sessions send, looked at closely for a while."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from track.media.v1.media_service_pb2 import HostedTrackStats, SessionStats
from track.v1.publication_pb2 import Publication
from track_server.pulse import Pulse

INTERVAL_S: Final = 0.2


class Meter:
    """The statistics of one publication while it is metered."""

    def __init__(self) -> None:
        self.latest: HostedTrackStats | None = None
        self._came = Pulse()

    def take(self, stats: HostedTrackStats) -> None:
        """The newest."""
        self.latest = stats
        self._came.beat()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until it holds, at most so long; looks whenever statistics come. Says whether it holds."""
        return await self._came.until(condition, timeout_s)

    @property
    def sent(self) -> tuple[str, int]:
        """Under which SID, and how many frames (video, data) or packets (audio)."""
        return sent_by(self.latest)

    @property
    def keyframes(self) -> dict[int, int]:
        """Keyframes encoded, by SSRC, of the layers that send."""
        streams = self.latest.streams if self.latest is not None else ()
        return {stream.ssrc: stream.key_frames_encoded for stream in streams if stream.frames_sent}


class Meters:
    """Those that are wanted now. ``changed``: told of a room whose statistics are wanted otherwise."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._meters: dict[str, list[Meter]] = {}
        self._rooms: dict[str, int] = {}

    def record(self, stats: SessionStats) -> None:
        """Takes what a session reports."""
        if not self._meters:
            return
        for track in stats.tracks:
            for meter in self._meters.get(track.publication_id, ()):
                meter.take(track)

    def interval(self, room: str) -> float | None:
        """How often sessions of the room should report, in seconds; None: not for this."""
        return INTERVAL_S if self._rooms.get(room) else None

    @contextlib.asynccontextmanager
    async def metering(self, publication: Publication) -> AsyncIterator[Meter]:
        """Meters it for the span of the block."""
        meter = Meter()
        room = publication.room
        self._meters.setdefault(publication.publication_id, []).append(meter)
        self._rooms[room] = self._rooms.get(room, 0) + 1
        self._changed(room)
        try:
            yield meter
        finally:
            self._meters[publication.publication_id].remove(meter)
            if not self._meters[publication.publication_id]:
                del self._meters[publication.publication_id]
            self._rooms[room] -= 1
            if not self._rooms[room]:
                del self._rooms[room]
            self._changed(room)


def sent_by(stats: HostedTrackStats | None) -> tuple[str, int]:
    """Under which SID, and how many frames (video, data) or packets (audio); ("", 0) where nothing is known."""
    if stats is None:
        return "", 0
    if stats.HasField("data"):
        return stats.track_sid, stats.data.frames_pushed
    count = sum(
        stream.frames_sent if stream.HasField("frames_sent") else stream.packets_sent for stream in stats.streams
    )
    return stats.track_sid, count
