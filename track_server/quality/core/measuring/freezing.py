"""Freezes of a video, also one that is still going on. Pure.

W3C webrtc-stats counts a freeze when the frame after it is shown, so its counters stand still for as long as the
picture does; libwebrtc counts none over which the stream was lost altogether, and the rtc SDK does not tell how long
they were. So frames that do not come are counted here as well, which shows freezes longer than from one reading to the
next.
"""

import math
from collections import deque
from typing import Final

from track_server.quality.core.measuring.reading import Reading

MARGIN_MS: Final = 150.0
"""webrtc-stats, freezeCount: a freeze is max(3 x average frame, average frame + 150 ms)."""

MAX_ENDED: Final = 32
"""Freezes kept: as many as a minute has, of a reading each."""


def threshold_ms(frame_ms: float) -> float:
    """From how many milliseconds between two frames on they are a freeze; ``frame_ms``: the average between two."""
    return max(3.0 * frame_ms, frame_ms + MARGIN_MS)


class Freezing:
    """When frames and packets of one stream last came, on the source's clock."""

    def __init__(self) -> None:
        self.frame_s = -math.inf
        """When a frame was last seen to have come."""
        self.packet_s = -math.inf
        """When anything was."""
        self._frame_ms: float | None = None
        self._ended: deque[tuple[float, float]] = deque(maxlen=MAX_ENDED)
        """When the last of them ended, and how long they were, at least."""

    def add(self, before: Reading, after: Reading) -> None:
        """Two adjacent readings that continue each other."""
        seconds = after.time_s - before.time_s
        if before.frames is not None and after.frames is not None and after.frames > before.frames:
            still_s = before.time_s - self.frame_s
            if self._frame_ms is not None and still_s * 1000.0 > threshold_ms(self._frame_ms):
                self._ended.append((before.time_s, still_s))
            self.frame_s = after.time_s
            frame_ms = 1000.0 * seconds / (after.frames - before.frames)
            # Slowly, so that the few frames around a freeze do not raise the bar for it.
            self._frame_ms = (
                frame_ms if self._frame_ms is None else min(frame_ms, 0.8 * self._frame_ms + 0.2 * frame_ms)
            )
        if after.last_packet_s is not None:
            self.packet_s = max(self.packet_s, min(after.last_packet_s, after.time_s))
        elif _came(before, after):
            self.packet_s = after.time_s

    def ended_s(self, begin_s: float) -> float:
        """Seconds of freezes that ended after ``begin_s``, as far as they lie after it."""
        return sum(min(seconds, end_s - begin_s) for end_s, seconds in self._ended if end_s > begin_s)

    def going_on_s(self, now_s: float) -> float | None:
        """How long the picture has stood still, at least: 0 where it moves; None where no frame was seen yet."""
        if self._frame_ms is None:
            return None
        still_s = now_s - self.frame_s
        return still_s if still_s * 1000.0 > threshold_ms(self._frame_ms) else 0.0

    def stuck_s(self, now_s: float, span_s: float) -> float | None:
        """How long packets have come without a frame; 0 where none came in the last ``span_s`` either."""
        if self._frame_ms is None:
            return None
        return now_s - self.frame_s if now_s - self.packet_s <= span_s else 0.0


def _came(before: Reading, after: Reading) -> bool:
    """Whether media came; padding alone is packets without payload."""
    if before.payload_bytes is not None and after.payload_bytes is not None:
        return after.payload_bytes > before.payload_bytes
    return before.packets is not None and after.packets is not None and after.packets > before.packets
