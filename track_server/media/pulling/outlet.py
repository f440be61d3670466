"""The way from a pulling session to the server: messages for the caller, as many as it takes."""

import asyncio

from track.media.v1.media_service_pb2 import PullSessionStats
from track.v1 import error_pb2, pull_pb2
from track_server.localwire import header
from track_server.media.pulling.response import Response
from track_server.pullwire import WINDOW_BYTES, Kind


class Outlet:
    """Sends, and counts. ``stats``: what was brought before, to be counted on from."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._on_the_way = 0
        self._over = False
        self.stats = pull_pb2.PullStats()
        """What became of the frames since the stream began."""

    @property
    def open(self) -> bool:
        """Whether the caller reads fast enough for another frame."""
        return self._on_the_way < WINDOW_BYTES

    def freed(self, size: int) -> None:
        """The caller has taken so many bytes."""
        self._on_the_way = max(0, self._on_the_way - size)

    def dropped(self, frames: int = 1) -> None:
        """Frames were left out."""
        self.stats.frames_dropped += frames

    def deliver(self, response: Response, position_us: int, *, frames: int) -> None:
        """Sends something of the media. ``frames``: how many are in it."""
        self.stats.frames_delivered += frames
        self.stats.bytes_delivered += len(response.data)
        self._on_the_way += len(response)
        self._write(Kind.FRAME, response.head, response.data, number=position_us)

    def started(self, started: pull_pb2.PullStarted) -> None:
        """Says that the track is subscribed."""
        self._write(Kind.STARTED, pull_pb2.PullMediaResponse(started=started).SerializeToString())

    def tell_stats(self) -> None:
        """Says what became of the frames, unless the caller does not read."""
        if self.open:
            self._write(Kind.NOTE, pull_pb2.PullMediaResponse(stats=self.stats).SerializeToString())

    def measured(self, stats: PullSessionStats) -> None:
        """Says what is received; it is for the server, and none of the caller's."""
        self._write(Kind.STATS, stats.SerializeToString())

    def ended(self, reason: pull_pb2.PullEndReason.ValueType) -> None:
        """Says the last word: it is over as it should be."""
        ended = pull_pb2.PullEnded(reason=reason, stats=self.stats)
        self._last(Kind.ENDED, pull_pb2.PullMediaResponse(ended=ended).SerializeToString())

    def failed(self, problem: error_pb2.Problem) -> None:
        """Says the last word: it cannot go on."""
        self._last(Kind.FAILED, problem.SerializeToString())

    def left(self) -> None:
        """Says the last word: LiveKit ended the connection."""
        self._last(Kind.LEFT, self.stats.SerializeToString())

    def _last(self, kind: Kind, payload: bytes = b"") -> None:
        if not self._over:
            self._write(kind, payload)
            self._over = True

    def _write(self, kind: Kind, *parts: bytes | bytearray | memoryview, number: int = 0) -> None:
        """Nothing where the server is gone, which is noticed elsewhere, or after the last word."""
        if not self._over and not self._writer.is_closing():
            self._writer.writelines((header(kind, sum(map(len, parts)), number), *parts))
