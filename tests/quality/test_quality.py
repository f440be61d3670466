"""One report of one track: statistics in, a report out, and no longer measured than somebody asks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit.protocol import models

from tests.quality.rooms import bind, infos, rate
from tests.quality.samples import audio, hosted, settle
from tests.quality.studio import Studio
from track.media.v1.media_service_pb2 import SessionStats
from track.v1.quality_pb2 import QUALITY_SOURCE_PUBLISHER_STATS, QUALITY_SOURCE_SFU_SCORE, GetQualityReportResponse
from track.v1.track_pb2 import FRESHNESS_SOURCE_WATCHED
from track_server.errors import TrackNotFound
from track_server.quality.live.quality import Quality
from track_server.rooms.room import DISCONNECTED, POLLED


class Reporting(Studio):
    """A room of a hosted microphone (PUB_1, TR_a1), a hosted data track (TR_d1) and a guest's camera (TR_v1)."""

    def __init__(self) -> None:
        super().__init__(linger_s=0.05)
        self.quality = Quality(self.assessing)
        self.told: asyncio.Queue[float | None] = asyncio.Queue()
        self.assessing.demand(lambda room: self.told.put_nowait(self.assessing.stats_interval(room)))
        bind(self.room, "TR_a1", "PUB_1")

    def record(self, second: float, sid: str = "TR_a1", identity: str = "host") -> None:
        self.assessing.record("room", identity, SessionStats(tracks=[hosted(second, [audio(second)], sid=sid)]))

    async def measure(self, seconds: int) -> None:
        """Statistics each second, for so long."""
        for _ in range(seconds):
            await self.clock.advance(1)
            self.record(self.clock.now().monotonic_s)


@pytest_asyncio.fixture
async def studio() -> AsyncIterator[Reporting]:
    result = Reporting()
    async with result.assessing:
        yield result


def sources(response: GetQualityReportResponse) -> list[int]:
    return [sample.source for sample in response.report.samples]


async def test_a_report_of_what_is_measured_comes_at_once(followed: Reporting) -> None:
    await followed.measure(6)
    response = await followed.quality.report(followed.room, "TR_a1", wait_s=0)
    assert sources(response) == [QUALITY_SOURCE_PUBLISHER_STATS]
    assert response.report.samples[0].bitrate_bps == 40_000
    assert response.freshness.source == FRESHNESS_SOURCE_WATCHED


async def test_a_report_asks_for_statistics_and_waits_for_the_first_window(studio: Reporting) -> None:
    asked = asyncio.ensure_future(studio.quality.report(studio.room, "TR_a1"))
    assert await studio.told.get() == 1.0
    await studio.measure(1)
    assert not asked.done()
    await studio.measure(1)
    assert sources(await asked) == [QUALITY_SOURCE_PUBLISHER_STATS]
    assert await studio.told.get() is None, "nobody asks any more"


async def test_a_report_does_not_wait_longer_than_it_may(studio: Reporting) -> None:
    response = await studio.quality.report(studio.room, "TR_a1", wait_s=0.01)
    assert sources(response) == []
    assert response.report.publication_id == "PUB_1"


async def test_old_statistics_and_those_of_an_earlier_sid_are_not_what_a_report_waits_for(followed: Reporting) -> None:
    studio = followed
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


async def test_a_muted_tracks_report_does_not_wait(studio: Reporting) -> None:
    (host,) = infos({"host": ["TR_a1", "TR_d1"]})
    host.tracks[0].muted = True
    studio.room.update([host])
    response = await asyncio.wait_for(studio.quality.report(studio.room, "TR_a1"), 1.0)
    assert response.report.muted
    assert sources(response) == []


async def test_a_report_of_an_ingress_waits_for_livekits_score_as_nobody_tells_statistics(studio: Reporting) -> None:
    (host,) = infos({"host": ["TR_a1", "TR_d1"]})
    host.kind = models.ParticipantInfo.INGRESS
    studio.room.update([host])
    asked = asyncio.ensure_future(studio.quality.report(studio.room, "TR_a1"))
    await settle()
    assert not asked.done()
    rate(studio.room, "host", models.ConnectionQuality.EXCELLENT, 4.5)
    response = await asyncio.wait_for(asked, 1.0)
    assert response.report.publication_id == "PUB_1"
    assert sources(response) == [QUALITY_SOURCE_SFU_SCORE]


async def test_a_report_of_a_guests_track_waits_for_livekits_score(studio: Reporting) -> None:
    asked = asyncio.ensure_future(studio.quality.report(studio.room, "TR_v1"))
    await settle()
    assert not asked.done()
    rate(studio.room, "guest", models.ConnectionQuality.EXCELLENT, 5.0)
    assert sources(await asked) == [QUALITY_SOURCE_SFU_SCORE]


@pytest.mark.parametrize("source", [POLLED, DISCONNECTED])
async def test_a_report_does_not_wait_for_a_score_that_cannot_come(studio: Reporting, source: int) -> None:
    if source == POLLED:
        studio.room.seen("RM_1", infos({"host": ["TR_a1"], "guest": ["TR_v1"]}), POLLED)
    else:
        studio.room.lost()
    response = await asyncio.wait_for(studio.quality.report(studio.room, "TR_v1"), 1.0)
    assert sources(response) == []
    assert response.freshness.source == source


@pytest.mark.parametrize("sid", ["TR_none", "TR_v1"])
async def test_a_track_that_is_not_there_or_goes_meanwhile_is_not_found(studio: Reporting, sid: str) -> None:
    asked = asyncio.ensure_future(studio.quality.report(studio.room, sid))
    await settle()
    studio.room.update(infos({"guest": []}))
    with pytest.raises(TrackNotFound) as caught:
        await asked
    assert caught.value.field == "track_sid"


async def test_windows_are_reported_shortest_first_and_the_old_form_covers_five_seconds(followed: Reporting) -> None:
    await followed.measure(70)
    response = await followed.quality.report(followed.room, "TR_a1", windows=[60.0, 1.0, 5.0, 1.0], wait_s=0)
    assert [found.window.seconds for found in response.report.measurements] == [1, 5, 60]
    assert response.report.samples[0].window.seconds == 5
    default = await followed.quality.report(followed.room, "TR_a1", wait_s=0)
    assert [found.window.seconds for found in default.report.measurements] == [5]
    assert default.report.samples[0].window.seconds == 5


async def test_a_mute_begins_a_new_window(followed: Reporting) -> None:
    await followed.measure(6)
    for muted in (True, False):
        (host,) = infos({"host": ["TR_a1", "TR_d1"]})
        host.tracks[0].muted = muted
        followed.room.update([host])
    await followed.measure(2)
    response = await followed.quality.report(followed.room, "TR_a1", wait_s=0)
    assert response.report.samples[0].window.seconds == 1
    assert response.report.measurements[0].window.seconds == 1


async def test_asking_again_keeps_the_statistics_coming(studio: Reporting) -> None:
    await studio.quality.report(studio.room, "TR_a1", wait_s=0)
    await studio.quality.report(studio.room, "TR_a1", wait_s=0)
    assert await studio.told.get() == 1.0
    assert await studio.told.get() is None
    assert studio.told.empty()


async def test_samples_are_of_the_tracks_that_are_there_by_participant_and_sid(followed: Reporting) -> None:
    await followed.measure(3)
    reports = followed.quality.sample(followed.room, ["TR_none", "TR_a1", "TR_v1"], 2.0)
    assert [report.track_sid for report in reports] == ["TR_v1", "TR_a1"]
    assert reports[1].samples[0].window.seconds == 2


async def test_a_room_that_nobody_follows_tells_what_livekit_told(studio: Reporting) -> None:
    rate(studio.room, "guest", models.ConnectionQuality.GOOD, 3.9)
    await studio.measure(3)
    (report,) = studio.quality.sample(studio.room, ["TR_v1"], 2.0)
    assert [sample.source for sample in report.samples] == [QUALITY_SOURCE_SFU_SCORE]
    assert report.measurements[0].sfu_score.value == pytest.approx(3.9)
    (silent,) = studio.quality.sample(studio.room, ["TR_a1"], 2.0)
    assert (list(silent.samples), list(silent.measurements)) == ([], [])
