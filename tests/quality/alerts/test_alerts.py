"""Alerts as they are told: once on, once off, with whose fault it is and what speaks for it, and kept."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.quality.rooms import infos
from tests.quality.told_room import BEGIN_S, Announced, Counting, SetClock, ToldRoom, store_at
from track.v1.event_pb2 import RoomSnapshot
from track.v1.quality_alert_pb2 import ListQualityAlertsRequest, QualityAlert, QualityAlertKind, QualityFault
from track.v1.quality_pb2 import QualityLevel
from track_server.durations import seconds_of
from track_server.errors import InvalidExpression, InvalidPageToken
from track_server.quality.alerts.alerts import Alerts
from track_server.quality.alerts.archive import Archive
from track_server.quality.alerts.listing import AlertListing

STALLED = QualityAlertKind.QUALITY_ALERT_KIND_STALLED
INTERRUPTED = QualityAlertKind.QUALITY_ALERT_KIND_INTERRUPTED
LOSS = QualityAlertKind.QUALITY_ALERT_KIND_NETWORK_LOSS
DAY_S = 86_400.0


class Run:
    """One run of a server: its alerts, over the store of the one before."""

    def __init__(self, archive: Archive) -> None:
        self.clock = SetClock()
        self.announced, self.counting, self.archive = Announced(), Counting(), archive
        self.alerts = Alerts(self.announced, archive, self.counting, clock=self.clock)
        self.told = ToldRoom(self.clock, self.alerts.assessed)
        self.listing = AlertListing(self.alerts, archive)

    async def listed(self, **query: object) -> list[QualityAlert]:
        answer = await self.listing.page(ListQualityAlertsRequest(room="room", **query))  # type: ignore[arg-type]
        return list(answer.alerts)

    def stall(self) -> QualityAlert:
        """The track stalls; the alert of it."""
        self.told.pass_s(20)
        self.told.link.down = True
        self.told.pass_s(8)
        (alert,) = [alert for alert in self.alerts.active("room") if alert.kind == STALLED]
        return alert


@contextlib.asynccontextmanager
async def running(directory: Path, *, crash: bool = False, most: int = 100) -> AsyncIterator[Run]:
    """``crash``: the alerts are not told that it ends."""
    async with store_at(directory) as store, Archive(store, age_s=7 * DAY_S, most=most) as archive:
        await archive.load()
        run = Run(archive)
        try:
            yield run
        finally:
            if not crash:
                await run.alerts.aclose()
                await run.alerts.aclose()


async def test_what_stalls_is_told_once_and_ends_when_it_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        alert = run.stall()
        (event,) = [
            event for event in run.announced.of("quality_alert_started") if event.quality_alert_started.kind == STALLED
        ]
        assert event.quality_alert_started.alert_id == alert.alert_id
        assert alert.alert_id.startswith("QA_")
        assert (alert.track_sid, alert.participant_identity, alert.publisher_identity) == ("TR_a", "alice", "alice")
        assert alert.fault == QualityFault.QUALITY_FAULT_PUBLISHER_UPLINK
        assert (alert.evidence.unit, alert.evidence.value >= 4.6) == ("s", True)
        assert not alert.HasField("end_time")
        # It began when the last packet came, and was told some seconds later.
        assert BEGIN_S + 19 <= seconds_of(alert.evidence.since_time) <= BEGIN_S + 22
        assert BEGIN_S + 24 <= seconds_of(alert.start_time) <= BEGIN_S + 27
        snapshot = RoomSnapshot()
        run.alerts.contribute("room", snapshot)
        assert alert.alert_id in [shown.alert_id for shown in snapshot.quality_alerts]
        tick = run.told.room.tick
        run.told.link.down = False
        run.told.pass_s(20)
        assert [found.kind for found in run.alerts.active("room")] == []
        assert alert.alert_id in [found.alert_id for found in run.alerts.ended_since("room", tick, "TR_a")]
        assert not run.alerts.ended_since("room", run.told.room.tick)
        (last,) = [found for found in await run.listed() if found.kind == STALLED]
        assert (last.alert_id, last.start_time) == (alert.alert_id, alert.start_time)
        assert last.end_time.ToNanoseconds() > last.start_time.ToNanoseconds()
        assert not last.ended_unproved
        assert run.counting.on == run.counting.over > 0
        levels = [event.quality_level_changed for event in run.announced.of("quality_level_changed")]
        assert [(level.previous_level, level.level) for level in levels] == [
            (QualityLevel.QUALITY_LEVEL_UNSPECIFIED, QualityLevel.QUALITY_LEVEL_EXCELLENT),
            (QualityLevel.QUALITY_LEVEL_EXCELLENT, QualityLevel.QUALITY_LEVEL_LOST),
            (QualityLevel.QUALITY_LEVEL_LOST, QualityLevel.QUALITY_LEVEL_EXCELLENT),
        ]


async def test_evidence_of_an_alert_that_is_on_is_the_newest(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.told.link.loss = 0.2
        run.told.pass_s(40)
        (alert,) = [alert for alert in run.alerts.active("room", "TR_a") if alert.kind == LOSS]
        (event,) = [
            event for event in run.announced.of("quality_alert_started") if event.quality_alert_started.kind == LOSS
        ]
        assert alert.evidence.unit == "percent"
        assert event.quality_alert_started.evidence.whole > 0
        assert 0 < alert.evidence.part <= alert.evidence.whole
        assert alert.start_time == event.quality_alert_started.start_time
        assert not run.alerts.active("room", "TR_other")
        assert not run.alerts.active("other")


@pytest.mark.parametrize("why", ["muted", "unpublished", "silence", "closed", "shutdown"])
async def test_what_is_measured_no_more_ends_unproved(tmp_path: Path, why: str) -> None:
    async with running(tmp_path) as run:
        alert = run.stall()
        if why == "muted":
            (track,) = run.told.live.model.tracks.values()
            there = infos({"alice": ["TR_a"]})
            there[0].tracks[0].muted = True
            run.told.live.update(there)
            assert run.told.live.model.tracks[track.sid].muted
            run.told.pass_s(1)
        elif why == "unpublished":
            run.told.live.update(infos({"alice": []}))
            run.told.clock.monotonic_s += 1
            now = run.clock.now()
            run.alerts.assessed(run.told.room, run.told.look(now), now)
        elif why == "silence":
            run.told.pass_s(20, told=False)
        elif why == "closed":
            run.alerts.closed(run.told.room)
        else:
            await run.alerts.aclose()
        assert not run.alerts.active("room")
        # A stream that resumes learns of it, whether anybody follows the room meanwhile or not.
        assert alert.alert_id in [found.alert_id for found in run.alerts.ended_since("room", -1)]
        last = {found.alert_id: found for found in await run.listed()}[alert.alert_id]
        assert last.ended_unproved
        assert last.HasField("end_time")
        assert run.counting.on == run.counting.over


@pytest.mark.parametrize("crash", [False, True])
async def test_alerts_of_an_earlier_run_ended_unproved(tmp_path: Path, crash: bool) -> None:
    async with running(tmp_path, crash=crash) as run:
        alert = run.stall()
        await run.archive.flush()
    for _ in range(2):
        async with running(tmp_path) as run:
            assert not run.alerts.active("room")
            (last,) = [found for found in await run.listed() if found.kind == STALLED]
            assert (last.alert_id, last.ended_unproved, last.HasField("end_time")) == (alert.alert_id, True, True)
            assert not await run.listed(active_only=True)


async def test_pages_have_those_that_are_on_and_then_those_that_ended_newest_first(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        for _ in range(3):
            run.stall()
            run.told.link.down = False
            run.told.pass_s(25)
        run.stall()
        whole = await run.listed()
        assert len(whole) >= 4
        assert [alert.HasField("end_time") for alert in whole] == sorted(alert.HasField("end_time") for alert in whole)
        ended = [seconds_of(alert.end_time) for alert in whole if alert.HasField("end_time")]
        assert ended == sorted(ended, reverse=True)
        paged: list[QualityAlert] = []
        token = ""
        while True:
            answer = await run.listing.page(
                ListQualityAlertsRequest(room="room", page_size=2, page_token=token, filter="alert.hop != 2")
            )
            paged += answer.alerts
            token = answer.next_page_token
            if not token:
                break
            assert len(answer.alerts) == 2
        assert [alert.alert_id for alert in paged] == [alert.alert_id for alert in whole]
        stalled = await run.listed(filter="alert.kind == QualityAlertKind.QUALITY_ALERT_KIND_STALLED")
        assert len(stalled) == 4
        assert len(await run.listed(active_only=True, filter="alert.kind == 5")) == 1
        assert not (await run.listing.page(ListQualityAlertsRequest(room="other"))).alerts
        with pytest.raises(InvalidExpression):
            await run.listed(filter="alert.nothing")
        first = await run.listing.page(ListQualityAlertsRequest(room="room", page_size=1))
        with pytest.raises(InvalidPageToken):
            await run.listed(page_token=first.next_page_token, active_only=True)
        with pytest.raises(InvalidPageToken):
            await run.listed(page_token="WyJ4Il0")


async def test_a_room_keeps_so_many_that_ended_the_newest(tmp_path: Path) -> None:
    async with running(tmp_path, most=3) as run:
        for _ in range(4):
            run.stall()
            run.told.link.down = False
            run.told.pass_s(25)
        newest = run.announced.of("quality_alert_ended")[-3:]
        kept = await run.listed()
        assert [alert.alert_id for alert in kept] == [event.quality_alert_ended.alert_id for event in reversed(newest)]


async def test_what_ended_is_told_to_streams_that_resume_for_five_minutes(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.stall()
        run.told.link.down = False
        run.told.pass_s(25)
        assert run.alerts.ended_since("room", 0)
        run.told.pass_s(300)
        assert not run.alerts.ended_since("room", 0)
