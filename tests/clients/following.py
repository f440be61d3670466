"""What companions measure of a room that is followed: the service's own parts in the test's process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tests.states import DEADLINE_S, Hearing
from track_server.quality.core.measuring.reading import Flow, Hop
from track_server.quality.core.measuring.sample import Sample
from track_server.quality.live.assessing import Assessing
from track_server.quality.reporting.companions import CompanionStats


class Followed:
    """The quality of a room that is heard."""

    def __init__(self, heard: Hearing, assessing: Assessing) -> None:
        self.heard = heard
        self.assessing = assessing

    def sample(self, sid: str, hop: Hop, identity: str) -> Sample | None:
        """What is measured of that track at that client; None: nothing."""
        found = self.assessing.of(self.heard.live.name)
        watch = found.assessment.watches.get(Flow(sid, hop, identity)) if found is not None else None
        return None if watch is None else watch.meter.total(5.0, self.assessing.clock.now().monotonic_s)

    def rated(self, sid: str, hop: Hop, identity: str) -> bool:
        """Whether rates are known of it."""
        sample = self.sample(sid, hop, identity)
        return sample is not None and sample.bitrate_bps is not None

    def intervals(self) -> dict[str, float | None]:
        """How often each client was told to tell statistics."""
        connections = self.heard.attended()._connections
        return {identity: each.stats_s for identity, each in connections.items() if each.reports}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for it."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def following(heard: Hearing) -> AsyncIterator[Followed]:
    """Its parts in the test's process; nobody follows yet."""
    async with Assessing(heard.rooms, linger_s=0.0) as assessing:
        heard.rooms.listen(assessing.happened)
        CompanionStats(heard.rooms, assessing, heard.attendance, heard.states)
        yield Followed(heard, assessing)
