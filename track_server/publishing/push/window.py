"""How much may be on its way to the track, and what credit a caller is given for it. Pure."""

from dataclasses import dataclass
from typing import Final

from track.v1.publication_pb2 import PublicationSpec

AHEAD_US: Final = 2_000_000
"""What is further ahead of what is sent waits at the caller, however few bytes it has."""

_RAW_PICTURES: Final = 4
_RAW_BYTES: Final = 1024 * 1024
"""Of small pictures more: what became of them is not told one by one."""
_ENCODED_BYTES: Final = 4 * 1024 * 1024
"""Two access units of the longest."""
_SOUND_S: Final = 2
_DATA_BYTES: Final = 1024 * 1024


def window_of(spec: PublicationSpec) -> int:
    """Bytes that may be on their way, of a completed ``spec``: a few frames of the largest."""
    match spec.push.WhichOneof("format"):
        case "raw_video":
            return max(_RAW_BYTES, _RAW_PICTURES * spec.video.width * spec.video.height * 3 // 2)
        case "encoded_video":
            return _ENCODED_BYTES
        case "pcm":
            return _SOUND_S * spec.push.pcm.sample_rate_hz * spec.push.pcm.channels * 2
        case _:
            return _DATA_BYTES


@dataclass(slots=True)
class Window:
    """Accounts for the bytes on their way to one receiver. ``size``: the most."""

    size: int
    on_the_way: int = 0
    newest_us: int | None = None
    """Timestamp of what was sent last."""
    taken_us: int | None = None
    """Timestamp of what the receiver took last; before, of what was sent first."""

    @property
    def open(self) -> bool:
        """Whether another frame may be sent."""
        return self.on_the_way < self.size and self.ahead_us < AHEAD_US

    @property
    def ahead_us(self) -> int:
        """Media that waits at the receiver, in microseconds."""
        if self.newest_us is None or self.taken_us is None or not self.on_the_way:
            return 0
        return max(0, self.newest_us - self.taken_us)

    def sent(self, size: int, timestamp_us: int | None) -> None:
        """A frame was sent."""
        if timestamp_us is not None:
            self.newest_us = timestamp_us
            if self.taken_us is None or not self.on_the_way:
                self.taken_us = timestamp_us
        self.on_the_way += size

    def freed(self, size: int, timestamp_us: int | None) -> None:
        """The receiver has done with frames, the last one of that timestamp."""
        self.on_the_way = max(0, self.on_the_way - size)
        if timestamp_us is not None:
            self.taken_us = timestamp_us


@dataclass(slots=True)
class Credit:
    """What a caller was told that it may send. ``size``: the most at once."""

    size: int
    left: int = 0
    """Of what it was told, less what it has sent; below 0 where it sends without."""

    def used(self, size: int) -> None:
        """The caller has sent so many bytes."""
        self.left -= size

    def due(self, on_the_way: int) -> int:
        """Bytes that could be told now."""
        return self.size - on_the_way - max(self.left, 0)

    def more(self, on_the_way: int, *, least: int = 1) -> int:
        """Bytes to be told now, 0 where they are fewer than ``least``; counts them as told."""
        more = self.due(on_the_way)
        if more < least:
            return 0
        self.left = max(self.left, 0) + more
        return more
