"""The assessments of live rooms: who follows them, when they tick and end, and what they report."""

import asyncio
import random

import pytest
from livekit.protocol import models

from tests.quality.core.readings import sent
from tests.quality.rooms import rate
from tests.quality.samples import EPOCH, settle
from tests.quality.studio import CAMERA, MIC, Studio
from track.v1.quality_alert_pb2 import QUALITY_HOP_DOWNLINK, QUALITY_HOP_UPLINK, QualityAlert
from track.v1.quality_pb2 import QualityAttainment
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import Timing
from track_server.quality.core.assessment import AT_ONCE, Assessed
from track_server.quality.core.measuring.reading import Reading, Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment

# Who follows.


async def test_a_room_that_nobody_follows_is_neither_assessed_nor_ticked_nor_asked_for_statistics(
    studio: Studio,
) -> None:
    await studio.clock.advance(5)
    assert studio.assessing.of("room") is None
    assert studio.assessing.stats_interval("room") is None
    assert not studio.assessing.add("room", MIC, [studio.reading(sent(0))])
    assert studio.ticks == []


async def test_a_followed_room_ticks_each_second(followed: Studio) -> None:
    assert followed.assessing.stats_interval("room") == 1.0
    await followed.clock.advance(3.5)
    assert [(name, tick) for name, tick, _ in followed.ticks] == [("room", 1), ("room", 2), ("room", 3)]
    assert set(followed.ticks[0][2]) == {MIC, CAMERA}


async def test_two_followers_share_an_assessment_and_the_last_ends_it(followed: Studio) -> None:
    first = followed.assessment
    followed.assessing.follow("you", "room")
    followed.assessing.follow("you", "room")
    assert followed.assessment is first
    followed.assessing.release("you", "room")
    followed.assessing.release("nobody", "room")
    await settle()
    assert followed.assessing.of("room") is first
    followed.assessing.release("me", "room")
    for _ in range(100):
        await settle()
    assert followed.assessing.of("room") is None
    assert followed.ended == [first]
    assert followed.assessing.stats_interval("room") is None


async def test_who_comes_back_soon_finds_the_windows() -> None:
    studio = Studio()
    studio.assessing = Assessing(studio.rooms, clock=studio.clock, linger_s=60.0)
    async with studio.assessing as assessing:
        with assessing.following("room"):
            first = assessing.of("room")
        assert assessing.of("room") is first
        with assessing.following("room"):
            assert assessing.of("room") is first
    assert assessing.of("room") is None


async def test_a_room_is_assessed_from_when_it_is_watched_and_anew_in_each_of_its_lives(studio: Studio) -> None:
    studio.rooms.drop("room")
    studio.assessing.follow("me", "room")
    assert studio.assessing.of("room") is None
    await studio.clock.advance(2)
    assert studio.ticks == []
    studio.watch()
    await studio.clock.advance(1)
    first = studio.assessment
    first.live.close("test")  # type: ignore[attr-defined]  # a LiveRoom
    await studio.clock.advance(1)
    assert studio.assessing.of("room") is None
    studio.watch()
    await studio.clock.advance(1)
    assert studio.assessment is not first
    assert studio.ended == [first]


async def test_observers_hear_when_a_rooms_statistics_are_wanted_and_no_more(studio: Studio) -> None:
    told: list[tuple[str, float | None]] = []
    studio.assessing.demand(lambda room: told.append((room, studio.assessing.stats_interval(room))))
    studio.assessing.follow("me", "room")
    studio.assessing.follow("you", "room")
    studio.assessing.release("me", "room")
    studio.assessing.release("you", "room")
    for _ in range(100):
        await settle()
    assert told == [("room", 1.0), ("room", None)]


async def test_one_rooms_trouble_is_not_that_of_the_others(followed: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    followed.rooms.watch({"host": ["TR_a9"]}, "other")
    followed.assessing.follow("me", "other")

    def break_down(_now_s: float) -> Assessed:
        raise ZeroDivisionError

    monkeypatch.setattr(followed.assessment.assessment, "ticking", break_down)
    await followed.clock.advance(2)
    assert [(name, tick) for name, tick, _ in followed.ticks] == [("other", 1), ("other", 2)]


async def test_who_listens_and_breaks_ends_no_ticks(followed: Studio) -> None:
    def break_down(found: RoomAssessment, _assessed: Assessed, _moment: Moment) -> None:
        if found.tick == 2:
            raise ZeroDivisionError

    followed.assessing.listen(break_down)
    await followed.clock.advance(4)
    assert [tick for _, tick, _ in followed.ticks] == [1, 2, 3, 4]


async def test_a_large_room_lets_others_have_their_turn_within_a_tick(studio: Studio) -> None:
    sids = [f"TR_a{number}" for number in range(4 * AT_ONCE)]
    large = studio.rooms.watch({"host": sids}, "large")
    studio.assessing.follow("me", "large")
    turns: list[int] = []

    async def count() -> None:
        while not studio.ticks:
            turns.append(len(studio.ticks))
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await studio.clock.advance(0.5)
    turns.clear()
    await studio.clock.advance(0.5)
    await counting
    assert len(turns) >= 4
    (_, _, seen), *_ = studio.ticks
    assert len(seen) == len(sids)
    # One that closes within its tick is told of no more.
    studio.ticks.clear()
    ticking = asyncio.ensure_future(studio.clock.advance(1.0))
    while (found := studio.assessing.of("large")) is not None and not turned(found):
        await asyncio.sleep(0)
    large.close("test")
    assert studio.assessing.of("large") is None
    await ticking
    assert studio.ticks == []
    assert studio.ended == [found]


def turned(found: RoomAssessment) -> bool:
    """Whether some of it was looked at in the tick that has begun, and some was not."""
    looked = {watch._ticked_s for watch in found.assessment.watches.values()}
    return len(looked) > 1


async def test_a_room_is_given_its_adaptation_and_another_when_that_changes(studio: Studio) -> None:
    first, second = (Adaptation(lambda _: None, Timing(), random.Random(seed)) for seed in (1, 2))
    made = [first, second, None]
    studio.assessing.adapt_with(lambda room: made.pop(0) if room == "room" else None)
    studio.assessing.follow("me", "room")
    assert studio.assessment.assessment.adaptation is first
    studio.assessing.readapt("room")
    assert studio.assessment.assessment.adaptation is second
    studio.assessing.readapt("room")
    assert studio.assessment.assessment.adaptation is None
    studio.assessing.readapt("elsewhere")


async def test_closing_ends_all_and_may_come_twice(followed: Studio) -> None:
    found = followed.assessment
    await followed.assessing.aclose()
    await followed.assessing.aclose()
    assert followed.ended == [found]
    assert followed.assessing.of("room") is None
    followed.assessing.follow("me", "room")
    assert followed.assessing.of("room") is None


# Reports.


async def test_livekits_score_stands_beside_every_track_of_its_publisher(followed: Studio) -> None:
    rate(followed.room, "guest", models.ConnectionQuality.GOOD, 3.9)
    followed.clock._now_s = followed.room.model.qualities["guest"].measure_time.ToNanoseconds() / 1e9 - EPOCH + 4
    await followed.clock.advance(0)
    now = followed.clock.now()
    report = followed.assessment.report(followed.room.model.tracks["TR_v1"], [5.0], now)
    assert report.measurements[0].sfu_score.value == pytest.approx(3.9)
    assert report.measurements[0].sfu_score.age.ToMilliseconds() == pytest.approx(4000, abs=2)
    assert not followed.assessment.report(followed.room.model.tracks["TR_a1"], [5.0], now).measurements


async def test_a_report_has_each_hop_alerts_and_attainment(followed: Studio) -> None:
    alert = QualityAlert(alert_id="QA_1", track_sid="TR_v1")
    followed.assessing.context.alerts_of = lambda room, sid: [alert] if (room, sid) == ("room", "TR_v1") else []
    attained = QualityAttainment()
    attained.within.FromSeconds(9)
    followed.assessing.context.attainment_of = lambda _room, sid: attained if sid == "TR_v1" else None
    for second in range(4):
        assert await followed.watch_camera(1)
        assert await followed.watch_camera(0, "hidden")
        followed.assessing.add("room", CAMERA, [followed.reading(sent(second, source=Source.COMPANION))])
    report = followed.assessment.report(followed.room.model.tracks["TR_v1"], [1.0, 5.0], followed.clock.now())
    assert [(found.hop, found.participant_identity) for found in report.measurements] == [
        (QUALITY_HOP_UPLINK, "guest"), (QUALITY_HOP_DOWNLINK, "host"),
        (QUALITY_HOP_UPLINK, "guest"), (QUALITY_HOP_DOWNLINK, "host"),
    ]  # fmt: skip
    assert list(report.alerts) == [alert]
    assert report.attainment == attained
    other = followed.assessment.report(followed.room.model.tracks["TR_a1"], [5.0], followed.clock.now())
    assert (list(other.alerts), other.HasField("attainment"), list(other.measurements)) == ([], False, [])


async def test_what_was_not_measured_is_absent(followed: Studio) -> None:
    for _ in range(3):
        await followed.clock.advance(1)
        bare = Reading(source=Source.COMPANION, ssrc=1, time_s=0.0, arrival_s=0.0)
        assert followed.assessing.add("room", MIC, [followed.reading(bare)])
    (found,) = followed.assessment.report(followed.room.model.tracks["TR_a1"], [5.0], followed.clock.now()).measurements
    assert {field.name for field, _ in found.ListFields()} == {"hop", "participant_identity", "window"}
