"""When a pushed frame is due. Pure: moments are seconds of the monotonic clock."""

from typing import Final

from track_server.media.inputs.timeline import Timeline

TOO_LATE_S: Final = 0.5
"""A frame that is later than this is left out where a newer one waits."""
JUMP_S: Final = 10.0
"""A frame that would be due later than this begins anew: nobody waits so long for what the caller has sent already."""
NEAR_S: Final = 2.0
"""So far from it at most, a first frame joins the time line of what else the participant publishes."""


class Schedule:
    """Turns the timestamps of one publication into moments.

    ``timeline``: of all that the participant's callers push, so that sound and pictures of one source are in sync.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._epoch: float | None = None

    def due(self, timestamp_us: int, now: float, *, newer: bool) -> float | None:
        """The moment of a frame; None where it is to be left out. ``newer``: another one waits."""
        position = timestamp_us / 1e6
        if self._epoch is None:
            epoch = self._timeline.anchor(position, now)
            self._epoch = epoch if abs(epoch + position - now) <= NEAR_S else now - position
        due = self._epoch + position
        if now - due > TOO_LATE_S:
            if newer:
                return None
        elif due - now <= JUMP_S:
            return due
        # The caller paused, or its clock jumped: what comes is played as it comes.
        self._epoch = now - position
        return now
