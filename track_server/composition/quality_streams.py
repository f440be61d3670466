"""StreamQualityReports: what is measured and found, told at an interval."""

import contextlib
from collections.abc import AsyncIterator

from track_server.composition.quality import Measured
from track_server.composition.quality_alerts import Alerted
from track_server.quality.streaming.followed import following
from track_server.quality.streaming.streams import Streams


@contextlib.asynccontextmanager
async def streaming(measured: Measured, alerted: Alerted) -> AsyncIterator[Streams]:
    """The report streams for the span of the block."""
    # Each stream knows itself which ends it has told: all that are kept.
    async with Streams(following(measured.assessing, lambda room: alerted.alerts.ended_since(room, -1))) as streams:
        yield streams
