"""What LiveKit hands on of a track, by its debug view: whether anything arrives from the publisher. Pure.

A publisher that hangs, or whose line is cut, tells nothing: its numbers cease. LiveKit numbers the packets that it
sends to each subscriber, and where none that wants them gets any, none came.
"""

import math
from collections.abc import Iterable
from typing import Final

from track_server.livekit.debug import DownTrack
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.reading import Reading, Source

_LATELY_S: Final = 0.5
"""A packet that went between two looks a second apart did so half a second ago, on average."""


class Forwarding:
    """Owner of what was seen of one track."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        """Of the last packet, by the subscriber's session."""
        self._packets = 0
        self._looked_s = -math.inf
        self._moved_s = -math.inf

    @property
    def served(self) -> bool:
        """Whether there was a subscriber at the last look to whom it ought to be handed on."""
        return bool(self._numbers)

    def look(self, copies: Iterable[DownTrack], *, video: bool, now: Moment) -> Reading | None:
        """``copies``: of the track, those that are negotiated. None where nobody is to get anything: of a video, who
        gets no layer either because it is paused for want of bandwidth."""
        numbers = {
            copy.subscriber_sid: copy.packets
            for copy in copies
            if not copy.disabled and (copy.spatial_layer >= 0 or not video)
        }
        known, self._numbers = self._numbers, numbers
        if not numbers:
            return None
        # Who has only just come may not have got anything yet.
        grown = sum(max(0, number - known.get(session, number)) for session, number in numbers.items())
        self._packets += grown
        if not known.keys() & numbers.keys():
            self._moved_s = now.monotonic_s
        elif grown:
            # Some time between the two looks. Where those are far apart, who knows that it was not just now.
            self._moved_s = max((self._looked_s + now.monotonic_s) / 2, now.monotonic_s - _LATELY_S)
        self._looked_s = now.monotonic_s
        return Reading(
            source=Source.DEBUG_VIEW,
            ssrc=0,
            time_s=now.time_s,
            arrival_s=now.monotonic_s,
            packets=self._packets,
            last_packet_s=now.time_s - (now.monotonic_s - self._moved_s),
        )
