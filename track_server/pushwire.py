"""What a server and a child of its media worker tell each other about pushed frames. See localwire."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_TAKEN: Final = struct.Struct(">IIQQ")
_BITRATE: Final = struct.Struct(">qd")


class Kind(IntEnum):
    """Kinds of messages. ``number`` is 0 and the payload empty where nothing else is said."""

    FRAME = 1
    """To the child: a frame that needs those before it. Number: its timestamp in microseconds. Payload: its data."""
    KEY_FRAME = 2
    """To the child: a frame that stands alone, as FRAME."""
    END = 3
    """To the child: no frame comes any more."""
    MUTE = 4
    """To the child: mute the track, since no frames come."""
    UNMUTE = 5
    """To the child: frames come again."""
    TAKEN = 17
    """To the server: what became of frames. Number: timestamp of the last one, or -1. Payload: `Taken`."""
    KEYFRAME_WANTED = 18
    """To the server: a subscriber needs a keyframe."""
    BITRATE = 19
    """To the server: what the connection carries. Payload: `Bitrate`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Since the last message of the kind: frames that the track took and their bytes, frames left out, and the bytes
    of both, which may be sent anew."""

    frames: int
    dropped: int
    bytes_taken: int
    bytes_free: int

    def encode(self) -> bytes:
        """As payload."""
        return _TAKEN.pack(self.frames, self.dropped, self.bytes_taken, self.bytes_free)

    @classmethod
    def decode(cls, payload: bytes) -> "Taken":
        """Of a payload. Raises struct.error."""
        return cls(*_TAKEN.unpack(payload))


@dataclass(frozen=True, slots=True)
class Bitrate:
    """What WebRTC asks of an encoder. ``frames_per_second``: 0 where it is not told."""

    bits_per_second: int
    frames_per_second: float

    def encode(self) -> bytes:
        """As payload."""
        return _BITRATE.pack(self.bits_per_second, self.frames_per_second)

    @classmethod
    def decode(cls, payload: bytes) -> "Bitrate":
        """Of a payload. Raises struct.error."""
        return cls(*_BITRATE.unpack(payload))
