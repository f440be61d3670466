"""Quality as a whole: statistics in, reports out, and asking for no more statistics than somebody reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from livekit.protocol import models

from tests.quality.rooms import bind, infos, live_room, rate
from tests.quality.samples import EPOCH, ManualClock, audio, hosted, settle
from track.media.v1.media_service_pb2 import SessionStats
from track.v1.quality_pb2 import (
    QUALITY_SOURCE_PUBLISHER_STATS,
    QUALITY_SOURCE_SFU_SCORE,
    GetQualityReportResponse,
    StreamQualityReportsResponse,
)
from track.v1.track_pb2 import FRESHNESS_SOURCE_WATCHED
from track_server.errors import Draining, ParticipantNotFound, TrackNotFound
from track_server.quality.counters import HISTORY_S
from track_server.quality.demand import Demand
from track_server.quality.quality import Quality
from track_server.quality.reports import Selection
from track_server.rooms.room import DISCONNECTED, POLLED, LiveRoom


class Studio:
    """A quality owner with a room of a hosted microphone (PUB_1, TR_a1) and a guest's camera (TR_v1)."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: asyncio.Queue[tuple[str, float | None]] = asyncio.Queue()
        self.quality = Quality(lambda *change: self.told.put_nowait(change), clock=self.clock, linger_s=0.05)
        self.room = live_room({"host": ["TR_a1", "TR_d1"], "guest": ["TR_v1"]})
        bind(self.room, "TR_a1", "PUB_1")

    def record(self, second: float, sid: str = "TR_a1", publication: str = "PUB_1") -> None:
        self.quality.record(SessionStats(tracks=[hosted(second, [audio(second)], sid=sid, publication=publication)]))

    async def measure(self, seconds: int) -> None:
        """Statistics each second, for so long."""
        for _ in range(seconds):
            await self.clock.advance(1)
            self.record(self.clock.now().monotonic_s)


@pytest_asyncio.fixture
async def studio() -> AsyncIterator[Studio]:
    result = Studio()
    async with result.quality:
        yield result


def sources(response: GetQualityReportResponse) -> list[int]:
    return [sample.source for sample in response.report.samples]


async def test_a_stream_reports_every_track_of_the_room_and_what_was_measured(studio: Studio) -> None:
    rate(studio.room, "guest", models.ConnectionQuality.GOOD, 3.9)
    await studio.measure(3)
    async with aclosing(studio.quality.stream(studio.room, Selection(), 5.0)) as stream:
        first = StreamQualityReportsResponse.FromString(await anext(stream))
        assert [report.track_sid for report in first.reports] == ["TR_v1", "TR_a1", "TR_d1"]
        assert [[sample.source for sample in report.samples] for report in first.reports] == [
            [QUALITY_SOURCE_SFU_SCORE], [QUALITY_SOURCE_PUBLISHER_STATS], [],
        ]  # fmt: skip
        assert first.time.seconds == EPOCH + 3
        assert first.freshness.source == FRESHNESS_SOURCE_WATCHED
        studio.room.update(infos({"guest": []}))
        following = asyncio.ensure_future(anext(stream))
        await studio.measure(5)
        second = StreamQualityReportsResponse.FromString(await following)
        assert [report.track_sid for report in second.reports] == ["TR_a1", "TR_d1"]


async def test_a_selection_that_is_not_there_is_refused_before_the_stream_begins(studio: Studio) -> None:
    with pytest.raises(ParticipantNotFound):
        studio.quality.stream(studio.room, Selection("mallory"), 5.0)
    with pytest.raises(TrackNotFound):
        studio.quality.stream(studio.room, Selection("", frozenset({"TR_none"})), 5.0)
    assert studio.quality.stats_interval("room") is None


async def test_a_report_of_what_is_measured_comes_at_once(studio: Studio) -> None:
    await studio.measure(6)
    response = await studio.quality.report(studio.room, "TR_a1", wait_s=0)
    assert sources(response) == [QUALITY_SOURCE_PUBLISHER_STATS]
    assert response.report.samples[0].bitrate_bps == 40_000
    assert response.freshness.source == FRESHNESS_SOURCE_WATCHED


async def test_a_report_asks_for_statistics_and_waits_for_the_first_window(studio: Studio) -> None:
    asked = asyncio.ensure_future(studio.quality.report(studio.room, "TR_a1"))
    assert await studio.told.get() == ("room", 1.0)
    await studio.measure(1)
    assert not asked.done()
    await studio.measure(1)
    assert sources(await asked) == [QUALITY_SOURCE_PUBLISHER_STATS]
    assert await studio.told.get() == ("room", None), "nobody asks any more"


async def test_a_report_does_not_wait_longer_than_it_may(studio: Studio) -> None:
    response = await studio.quality.report(studio.room, "TR_a1", wait_s=0.01)
    assert sources(response) == []
    assert response.report.publication_id == "PUB_1"


async def test_old_statistics_and_those_of_an_earlier_sid_are_not_what_a_report_waits_for(studio: Studio) -> None:
    await studio.measure(3)
    await studio.clock.advance(30)
    asked = asyncio.ensure_future(studio.quality.report(studio.room, "TR_a1"))
    await settle()
    studio.record(33, "TR_a0")
    studio.record(34, "TR_a0")
    await settle()
    assert not asked.done()
    await studio.measure(2)
    assert (await asked).report.samples[0].window.seconds == 1


async def test_a_muted_tracks_report_does_not_wait(studio: Studio) -> None:
    (host,) = infos({"host": ["TR_a1", "TR_d1"]})
    host.tracks[0].muted = True
    studio.room.update([host])
    response = await asyncio.wait_for(studio.quality.report(studio.room, "TR_a1"), 1.0)
    assert response.report.muted
    assert sources(response) == []


async def test_a_report_of_a_guests_track_waits_for_livekits_score(studio: Studio) -> None:
    asked = asyncio.ensure_future(studio.quality.report(studio.room, "TR_v1"))
    await settle()
    assert not asked.done()
    rate(studio.room, "guest", models.ConnectionQuality.EXCELLENT, 5.0)
    assert sources(await asked) == [QUALITY_SOURCE_SFU_SCORE]
    assert studio.quality.stats_interval("room") is None, "no hosted session can tell anything of it"


@pytest.mark.parametrize("source", [POLLED, DISCONNECTED])
async def test_a_report_does_not_wait_for_a_score_that_cannot_come(studio: Studio, source: int) -> None:
    if source == POLLED:
        studio.room.seen("RM_1", infos({"host": ["TR_a1"], "guest": ["TR_v1"]}), POLLED)
    else:
        studio.room.lost()
    response = await asyncio.wait_for(studio.quality.report(studio.room, "TR_v1"), 1.0)
    assert sources(response) == []
    assert response.freshness.source == source


@pytest.mark.parametrize("sid", ["TR_none", "TR_v1"])
async def test_a_track_that_is_not_there_or_goes_meanwhile_is_not_found(studio: Studio, sid: str) -> None:
    asked = asyncio.ensure_future(studio.quality.report(studio.room, sid))
    await settle()
    studio.room.update(infos({"guest": []}))
    with pytest.raises(TrackNotFound) as caught:
        await asked
    assert caught.value.field == "track_sid"


async def test_a_mute_begins_a_new_window(studio: Studio) -> None:
    await studio.measure(6)
    studio.quality.interrupt("PUB_1")
    studio.quality.interrupt("PUB_unknown")
    await studio.measure(2)
    response = await studio.quality.report(studio.room, "TR_a1", wait_s=0)
    assert response.report.samples[0].window.seconds == 1


async def test_what_ended_or_fell_silent_is_forgotten(studio: Studio) -> None:
    await studio.measure(2)
    studio.quality.forget("PUB_1")
    studio.quality.forget("PUB_1")
    assert sources(await studio.quality.report(studio.room, "TR_a1", wait_s=0)) == []
    for second in range(1000):
        studio.record(second, publication=f"PUB_{second}")
        await studio.clock.advance(1)
    assert len(studio.quality._histories) <= HISTORY_S + 1


async def test_closing_ends_streams_and_asks_for_no_more_statistics(studio: Studio) -> None:
    await studio.quality.report(studio.room, "TR_a1", wait_s=0)
    stream = studio.quality.stream(studio.room, Selection(), 1.0)
    await anext(stream)
    following = asyncio.ensure_future(anext(stream))
    await settle()
    await studio.quality.aclose()
    await studio.quality.aclose()
    with pytest.raises(Draining):
        await following
    assert studio.quality.stats_interval("room") is None


@pytest.mark.parametrize(
    ("intervals", "expected"), [([60.0], 5.0), ([4.0], 4.0), ([4.0, 2.0], 2.0), ([0.1, 30.0], 1.0), ([], None)]
)
def test_statistics_are_wanted_at_most_each_second_and_at_least_each_5(
    intervals: list[float], expected: float | None
) -> None:
    demand = Demand(lambda _room, _interval_s: None)
    holds = [demand.hold("room", interval_s) for interval_s in intervals]
    for hold in holds:
        hold.__enter__()
    assert demand.interval("room") == expected
    assert demand.interval("other") is None
    for hold in holds:
        hold.__exit__(None, None, None)
    assert demand.interval("room") is None


async def test_asking_again_keeps_the_statistics_coming(studio: Studio) -> None:
    room: LiveRoom = studio.room
    await studio.quality.report(room, "TR_a1", wait_s=0)
    await studio.quality.report(room, "TR_a1", wait_s=0)
    assert await studio.told.get() == ("room", 1.0)
    assert await studio.told.get() == ("room", None)
    assert studio.told.empty()
