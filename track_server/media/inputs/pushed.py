"""Frames that a caller pushes, as the server passes them on over a local socket."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from track.media.v1.media_service_pb2 import PushSource
from track_server import errors
from track_server.localwire import HELLO, Messages, header
from track_server.pushwire import Bitrate, Kind, Taken

_REPORT_BYTES: Final = 256 * 1024
_REPORT_S: Final = 0.15
"""What became of frames is told at once from so many bytes on, else after so long: many small ones cost one message."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A frame. ``key``: it can be used without those before. ``timestamp_us``: 0 for data."""

    timestamp_us: int
    data: bytearray
    key: bool


class PushedFrames(Messages):
    """The server's frames of one publication, in order. The server bounds how many wait here.

    `connect` first, then `next`; each frame is given back by `taken` or `dropped`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Pushed | Kind] = deque()
        """What has come: frames, and END, MUTE and UNMUTE between them."""
        self._lost = False
        self._came = asyncio.Event()
        self._report = Taken(0, 0, 0, 0)
        self._last_us = -1
        self._timer: asyncio.TimerHandle | None = None

    async def connect(self, source: PushSource) -> None:
        """Ask the server for the frames. Raises PublishFailed."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, source.socket_path)
        except OSError as error:
            raise errors.PublishFailed("the frames cannot be fetched: the server is on another machine or gone") from (
                error
            )
        ticket = source.ticket.encode()
        self._write(header(HELLO, len(ticket)) + ticket)

    async def next(self) -> Pushed | Kind:
        """The next frame, or END, MUTE or UNMUTE. Raises PublishFailed where the server is gone."""
        while not self.waiting:
            if self._lost:
                raise errors.PublishFailed("the frames come no more: the server is gone")
            self._came.clear()
            await self._came.wait()
        return self.waiting.popleft()

    @property
    def newer(self) -> bool:
        """Whether another frame waits."""
        return any(isinstance(item, Pushed) for item in self.waiting)

    @property
    def key_waits(self) -> bool:
        """Whether a frame waits that can be used without those before."""
        return any(isinstance(item, Pushed) and item.key for item in self.waiting)

    def taken(self, frame: Pushed) -> None:
        """The track took the frame."""
        size, report = len(frame.data), self._report
        self._tell(frame, Taken(report.frames + 1, report.dropped, report.bytes_taken + size, report.bytes_free + size))

    def dropped(self, frame: Pushed) -> None:
        """The frame was left out."""
        report = self._report
        free = report.bytes_free + len(frame.data)
        self._tell(frame, Taken(report.frames, report.dropped + 1, report.bytes_taken, free))

    def want_keyframe(self) -> None:
        """A subscriber needs a keyframe."""
        self._write(header(Kind.KEYFRAME_WANTED))

    def want_bitrate(self, bitrate: Bitrate) -> None:
        """The connection to LiveKit carries so much."""
        payload = bitrate.encode()
        self._write(header(Kind.BITRATE, len(payload)) + payload)

    def close(self) -> None:
        """End the connection. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self._flush()
            self.transport.close()

    def _tell(self, frame: Pushed, report: Taken) -> None:
        self._report, self._last_us = report, frame.timestamp_us
        if report.bytes_free >= _REPORT_BYTES:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_REPORT_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        report, self._report = self._report, Taken(0, 0, 0, 0)
        if report.frames or report.dropped:
            payload = report.encode()
            self._write(header(Kind.TAKEN, len(payload), self._last_us) + payload)

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self._lost:
            self.transport.write(data)

    def received(self, kind: int, number: int, payload: bytearray, length: int) -> None:
        """See Messages."""
        if kind in (Kind.FRAME, Kind.KEY_FRAME):
            self.waiting.append(Pushed(number, payload, kind == Kind.KEY_FRAME))
        elif kind in (Kind.END, Kind.MUTE, Kind.UNMUTE):
            self.waiting.append(Kind(kind))
        self._came.set()

    def connection_lost(self, error: Exception | None) -> None:
        """See Protocol."""
        self._lost = True
        self._came.set()
