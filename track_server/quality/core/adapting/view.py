"""What one line of actions is told at each tick. Pure."""

from dataclasses import dataclass

from track_server.quality.core.adapting.measure import Measure
from track_server.quality.core.detecting.table import AlertKind


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``reasons``: the alerts that call for action on this line; empty where none does. ``fresh``: what
    was measured since the last tick, each packet once. ``received``: the highest layer that arrives of a video which is
    limited here; None unknown. ``congested``: the network is part of the trouble, so that nothing is restarted.
    ``since_s``: from when on the evidence of the trouble is (monotonic): what was before it is no measure of it.
    """

    reasons: frozenset[AlertKind]
    fresh: Measure
    received: int | None = None
    congested: bool = False
    since_s: float | None = None

    @property
    def text(self) -> str:
        """The reasons in words."""
        return ", ".join(kind.name.lower() for kind in sorted(self.reasons))

    @property
    def measured(self) -> bool:
        """Whether anything was."""
        return self.fresh.seconds > 0
