"""When a publication that nobody pushes frames into is muted, and when it ends. Pure: moments are seconds."""

import math
from dataclasses import dataclass
from enum import Enum, auto

from track.v1.publication_pb2 import PushInput
from track_server.durations import seconds_of


class Due(Enum):
    """What is to be done."""

    NOTHING = auto()
    MUTE = auto()
    """No frame for `stall_mute`."""
    END = auto()
    """No frame for `stall_end`, or nobody who took up a stream that broke within `resume_grace`."""


@dataclass(slots=True)
class StallClock:
    """``mute_s``: infinite where it is never muted. ``sporadic``: while a stream is open, frames may stay away."""

    mute_s: float
    end_s: float
    grace_s: float
    sporadic: bool
    last: float
    """When the last frame came; before, when it began to be waited for."""
    waiting: bool = True
    """Whether no media worker has waited for frames yet: nobody could push any."""
    fed: bool = False
    """Whether a frame ever came."""
    open: bool = False
    """Whether a stream is open."""
    held: bool = False
    """Whether the caller is held back by us: it cannot stall."""
    broke: float | None = None
    """When the last stream broke; None: none did, or another is open."""
    muted: bool = False

    @classmethod
    def of(cls, push: PushInput, now: float) -> "StallClock":
        """Of a completed input, from ``now`` on."""
        sporadic = push.HasField("data")
        return cls(
            mute_s=math.inf if sporadic else seconds_of(push.stall_mute),
            end_s=seconds_of(push.stall_end),
            grace_s=seconds_of(push.resume_grace),
            sporadic=sporadic,
            last=now,
        )

    def follow(self, push: PushInput) -> None:
        """The spans were changed."""
        fresh = StallClock.of(push, self.last)
        self.mute_s, self.end_s, self.grace_s = fresh.mute_s, fresh.end_s, fresh.grace_s

    def awaited(self, now: float) -> None:
        """A media worker waits for frames."""
        if self.waiting:
            self.waiting, self.last = False, now

    def frame(self, now: float) -> None:
        """A frame came."""
        self.last, self.fed, self.muted = now, True, False

    def taken(self, now: float) -> None:
        """The track took a frame that was pushed ahead of time: that is no stall."""
        if not self.muted:
            self.last = max(self.last, now)

    def opened(self, now: float) -> None:
        """A stream is open."""
        self.open, self.broke, self.last = True, None, now if not self.fed or self.sporadic else self.last

    def closed(self, now: float) -> None:
        """The stream broke."""
        self.open, self.broke = False, now
        self.hold(now, held=False)
        if self.sporadic:
            self.last = now

    def hold(self, now: float, *, held: bool) -> None:
        """The caller is held back, or no longer."""
        if self.held and not held:
            self.last = now
        self.held = held

    def due(self, now: float) -> Due:
        """What is to be done now."""
        if self.broke is not None and now >= self.broke + self.grace_s:
            return Due.END
        if self._resting:
            return Due.NOTHING
        if now >= self.last + self.end_s:
            return Due.END
        return Due.MUTE if self._may_mute and now >= self.last + self.mute_s else Due.NOTHING

    def next(self) -> float:
        """When something is due; infinite where nothing will be before something else happens."""
        moments = [math.inf if self.broke is None else self.broke + self.grace_s]
        if not self._resting:
            moments.append(self.last + (self.mute_s if self._may_mute else self.end_s))
        return min(moments)

    @property
    def _resting(self) -> bool:
        return self.waiting or self.held or (self.sporadic and self.open)

    @property
    def _may_mute(self) -> bool:
        return self.fed and not self.muted
