"""A child of a media worker that takes a publication's frames, seen from the server."""

import asyncio
from typing import Final, Protocol

from track_server.localwire import header, read_message
from track_server.publishing.push.sequence import Frame
from track_server.publishing.push.window import Window
from track_server.pushwire import Bitrate, Kind, Taken

_LONGEST_ANSWER: Final = 1024


class Listener(Protocol):
    """Is told what a child says."""

    def taken(self, connection: "Connection", taken: Taken) -> None:
        """What became of frames."""

    def keyframe_wanted(self) -> None:
        """A subscriber needs a keyframe."""

    def bitrate_wanted(self, bitrate: Bitrate) -> None:
        """What the connection to LiveKit carries."""


class Connection:
    """One of them. Its window bounds what is in memory, here and there."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window_bytes: int) -> None:
        self.window = Window(window_bytes)
        self.frames_on_the_way = 0
        self._reader = reader
        self._writer = writer

    def send(self, frame: Frame) -> None:
        """Sends a frame. The window must be open."""
        self.window.sent(len(frame.data), frame.timestamp_us)
        self.frames_on_the_way += 1
        kind = Kind.KEY_FRAME if frame.key else Kind.FRAME
        self._write(header(kind, len(frame.data), frame.timestamp_us or 0), frame.data)

    def say(self, kind: Kind) -> None:
        """Sends a message without payload."""
        self._write(header(kind))

    async def listen(self, listener: Listener) -> None:
        """Reads until the child is gone. Raises OSError or struct.error where it talks nonsense."""
        while True:
            try:
                kind, number, payload = await read_message(self._reader, _LONGEST_ANSWER)
            except asyncio.IncompleteReadError:
                return
            match kind:
                case Kind.TAKEN:
                    taken = Taken.decode(payload)
                    self.window.freed(taken.bytes_free, number if number >= 0 else None)
                    self.frames_on_the_way = max(0, self.frames_on_the_way - taken.frames - taken.dropped)
                    listener.taken(self, taken)
                case Kind.KEYFRAME_WANTED:
                    listener.keyframe_wanted()
                case Kind.BITRATE:
                    listener.bitrate_wanted(Bitrate.decode(payload))
                case _:
                    pass

    def close(self) -> None:
        """Ends it at once. May be called twice."""
        self._writer.transport.abort()

    def _write(self, *parts: bytes) -> None:
        """Nothing where the child is gone, which `listen` tells a moment later: uvloop refuses to write then."""
        if not self._writer.is_closing():
            self._writer.writelines(parts)
