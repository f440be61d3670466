"""Frames of a data track."""

import struct
from typing import Final

DEFAULT_FRAME_BYTES: Final = 64
_HEADER: Final = struct.Struct(">QQ")


class DataFrames:
    """The frames of a DataInput: its `payload` in each, or numbered ones of `frame_bytes` (16 or more)."""

    def __init__(self, payload: bytes, frame_bytes: int) -> None:
        self._payload = payload
        self._padding = bytes(max(0, (frame_bytes or DEFAULT_FRAME_BYTES) - _HEADER.size))
        self._number = 0

    def change(self, payload: bytes, frame_bytes: int) -> None:
        """What the next frames are like; numbers go on."""
        self._payload = payload
        self._padding = bytes(max(0, (frame_bytes or DEFAULT_FRAME_BYTES) - _HEADER.size))

    def next_frame(self, time_us: int) -> bytes:
        """The next frame; `time_us` is now, in microseconds since 1970 UTC."""
        if self._payload:
            return self._payload
        frame = _HEADER.pack(self._number, time_us) + self._padding
        self._number += 1
        return frame
