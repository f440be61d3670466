"""What is told of the quality of rooms, now and later: alerts, history, attainment, recordings, and metrics."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.composition.foundation import Foundation
from track_server.quality.alerts.alerts import Alerts
from track_server.quality.alerts.archive import Archive
from track_server.quality.alerts.following import AlertFollowing
from track_server.quality.alerts.listing import AlertListing
from track_server.quality.attainments import Attainments
from track_server.quality.history.archive import PointArchive
from track_server.quality.history.history import History
from track_server.quality.history.listing import HistoryListing
from track_server.quality.live.assessing import Assessing
from track_server.quality.recordings.recorder import Recorder
from track_server.quality.tallies import AttainmentMetrics, Tallies


@dataclass(frozen=True, slots=True)
class Alerted:
    """The parts."""

    alerts: Alerts
    alert_listing: AlertListing
    history_listing: HistoryListing
    recorder: Recorder
    following: AlertFollowing
    attainments: Attainments
    tallies: Tallies


@contextlib.asynccontextmanager
async def alerting(ground: Foundation, assessing: Assessing) -> AsyncIterator[Alerted]:
    """All that listens to the assessments, for the span of the block.

    What an earlier run left on is ended. Raises StoreError.
    """
    settings, rooms = ground.settings, ground.rooms
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        archive = await enter(
            Archive(
                ground.store,
                age_s=settings.quality_alert_retention_hours * 3600,
                most=settings.quality_alerts_per_room,
            )
        )
        await archive.load()
        points = await enter(
            PointArchive(
                ground.store.journal,
                room_bytes=settings.quality_history_max_megabytes_per_room << 20,
                max_bytes=settings.quality_history_max_megabytes << 20,
            )
        )
        tallies = Tallies(ground.registry)
        attainments = Attainments(tallies.passed)
        if settings.quality_attainment_metrics != "off":
            ground.registry.register(AttainmentMetrics(attainments.all, settings.quality_attainment_metrics))
        history = History(points)
        recorder = await enter(Recorder(rooms, assessing))
        alerts = await enter(Alerts(rooms.announce, archive, tallies))
        following = AlertFollowing(rooms, assessing)
        ground.standing.listen(following.seen)
        rooms.contribute(alerts.contribute)
        rooms.closing(alerts.closing)
        # Targets first: reports and events that follow a tick have what it found.
        for listener in (attainments.assessed, alerts.assessed, history.assessed, recorder.ticked):
            assessing.listen(listener)
        for ended in (alerts.closed, history.closed, attainments.closed, recorder.ended, following.closed):
            assessing.closing(ended)
        assessing.context.alerts_of = alerts.active
        assessing.context.attainment_of = attainments.of
        assessing.context.tap = recorder.told
        yield Alerted(
            alerts, AlertListing(alerts, archive), HistoryListing(points), recorder, following, attainments, tallies
        )
