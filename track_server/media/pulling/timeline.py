"""Where in the stream a frame belongs, in microseconds from its first one. Pure."""

from dataclasses import dataclass
from typing import Final

from track_server.media.inputs.tone import SAMPLE_RATE

_STRAY_US: Final = 500_000
"""A picture whose own clock differs by more from that of its arrival belongs to a clock that began anew."""


@dataclass(slots=True)
class Timeline:
    """Of a whole stream, over the tracks and sessions that it consists of.

    ``base_us``: where it is at ``began_s`` of the monotonic clock; None: it begins with the first frame.
    """

    base_us: int = 0
    began_s: float | None = None

    def at(self, now_s: float) -> int:
        """The place of a moment of the monotonic clock; the first that is asked for is at the beginning."""
        if self.began_s is None:
            self.began_s = now_s
        return self.base_us + max(0, round((now_s - self.began_s) * 1e6))


@dataclass(slots=True)
class PictureClock:
    """Places pictures by the timestamps of WebRTC, which are steadier than their arrival."""

    _offset_us: int | None = None
    _last_us: int = -1

    def place(self, timestamp_us: int, arrival_us: int) -> int:
        """Where the picture of that timestamp belongs that arrived there: later than the one before."""
        if self._offset_us is None or abs(timestamp_us + self._offset_us - arrival_us) > _STRAY_US:
            self._offset_us = arrival_us - timestamp_us
        self._last_us = max(self._last_us + 1, timestamp_us + self._offset_us)
        return self._last_us


@dataclass(slots=True)
class SoundClock:
    """Places sound by counting its samples: within a track they come without a gap, be it in silence."""

    _next_us: float | None = None
    _anew: bool = False

    def begin(self) -> None:
        """Another track goes on from here."""
        self._anew = True

    def place(self, samples: int, arrival_us: int) -> tuple[int, int]:
        """Where so many samples belong that arrived there, and how many are missing before them."""
        missing = 0
        if self._next_us is None:
            self._next_us = float(arrival_us)
        elif self._anew:
            missing = max(0, round((arrival_us - self._next_us) * SAMPLE_RATE / 1e6))
            self._next_us += missing * 1e6 / SAMPLE_RATE
        self._anew = False
        place = round(self._next_us)
        self._next_us += samples * 1e6 / SAMPLE_RATE
        return place, missing
