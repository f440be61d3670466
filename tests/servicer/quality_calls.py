"""Calls about the quality of tracks over time, and pictures that somebody pushes, or does not."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from tests.media.encoded import picture
from tests.servicer.pushing import publish_push, push_spec, pushing, raw
from tests.streams import EventStream
from tests.track_process import Client
from track.v1 import publication_pb2
from track.v1.quality_alert_pb2 import ListQualityAlertsRequest, QualityAlert, QualityAlertKind
from track.v1.quality_pb2 import (
    GetQualityReportRequest,
    ListQualityReportsRequest,
    QualityPoint,
    TrackQualityReport,
)
from track_server.durations import duration_of

DEADLINE_S: Final = 45.0
STALLED: Final = QualityAlertKind.QUALITY_ALERT_KIND_STALLED


class PushedPicture:
    """A video whose frames come while ``flows`` is set."""

    def __init__(self, publication: publication_pb2.Publication) -> None:
        self.publication = publication
        self.flows = asyncio.Event()
        self.flows.set()

    @property
    def sid(self) -> str:
        return self.publication.track_sid


@contextlib.asynccontextmanager
async def pushed_picture(client: Client, room: str) -> AsyncIterator[PushedPicture]:
    """Published by pushing, for the span of the block. A stall neither mutes nor ends it."""
    spec = push_spec("raw_video", stall_mute=600, stall_end=1200)
    known = await publish_push(client, room, spec)
    pictures = [picture(number) for number in range(15)]
    async with pushing(client, known) as pusher:
        await pusher.ready()
        pushed = PushedPicture(known)

        async def push() -> None:
            for number in itertools.count():
                await pushed.flows.wait()
                await pusher.send(raw(number, pictures[number % len(pictures)]))
                await asyncio.sleep(1 / 15)

        task = asyncio.create_task(push())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not pushed.publication.track_sid:
                    request = publication_pb2.GetPublicationRequest(room=room, publication_id=known.publication_id)
                    pushed.publication = (await client.GetPublication(request)).publication
                    await asyncio.sleep(0.05)
            yield pushed
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def alerts(client: Client, room: str, **query: Any) -> list[QualityAlert]:
    """The first page of them."""
    answer = await client.ListQualityAlerts(ListQualityAlertsRequest(room=room, **query))
    return list(answer.alerts)


async def report(client: Client, room: str, sid: str) -> TrackQualityReport:
    """The track's, now."""
    answer = await client.GetQualityReport(GetQualityReportRequest(room=room, track_sid=sid))
    found: TrackQualityReport = answer.report
    return found


async def points(client: Client, room: str, window_s: float = 5, **query: Any) -> list[QualityPoint]:
    """The first page of the history."""
    request = ListQualityReportsRequest(room=room, window=duration_of(window_s), **query)
    return list((await client.ListQualityReports(request)).points)


async def until(found: Callable[[], Any]) -> Any:
    """Asks until what is found is not empty, and returns it."""
    async with asyncio.timeout(DEADLINE_S):
        while not (what := await found()):
            await asyncio.sleep(0.2)
    return what


async def stall_of(stream: EventStream, publisher: str, identity: str) -> QualityAlert:
    """Reads on to the alert that a track of that publisher stalls, at that participant's end."""
    alert: QualityAlert = await stream.until(
        "quality_alert_started",
        lambda found: (
            (found.kind, found.publisher_identity, found.participant_identity) == (STALLED, publisher, identity)
        ),
    )
    return alert
