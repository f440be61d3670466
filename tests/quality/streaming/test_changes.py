"""Which reports a reader is told of: those that changed, and those that its filter matches."""

import pytest

from tests.quality.streaming.told import Stages, sids
from track.v1.quality_pb2 import QUALITY_LEVEL_GOOD, QUALITY_LEVEL_POOR
from track_server.errors import InvalidExpression, ParticipantNotFound, TrackNotFound

POOR = "report.measurements.exists(m, m.level == QualityLevel.QUALITY_LEVEL_POOR)"


async def test_only_changes_are_told_and_numbers_that_moved_are_none(stage: Stages) -> None:
    stage.room.rate("TR_a1", QUALITY_LEVEL_GOOD)
    view = stage.open(only_changes=True)
    await view.take()
    assert sids(view) == ["TR_a1", "TR_v1"]
    stage.room.bitrates["TR_a1"] = 5
    stage.room.tick += 1
    await stage.beat(1, view)
    assert len(view.messages) == 1, "no message without a change"
    stage.room.rate("TR_a1", QUALITY_LEVEL_POOR)
    await stage.beat(1, view)
    assert sids(view) == ["TR_a1"]
    alert = stage.room.start("TR_v1")
    await stage.beat(1, view)
    assert sids(view) == ["TR_v1"]
    stage.room.end(alert)
    await stage.beat(1, view)
    assert sids(view) == ["TR_v1"]
    assert view.over == {alert}
    await stage.beat(1, view)
    assert len(view.messages) == 4


async def test_an_alert_that_came_and_went_between_two_messages_is_told(stage: Stages) -> None:
    view = stage.open(interval_s=60, only_changes=True)
    await view.take()
    alert = stage.room.start("TR_a1")
    stage.room.end(alert)
    await stage.beat(60, view)
    assert sids(view) == ["TR_a1"]
    assert view.over == {alert}
    stage.open(interval_s=60, only_changes=True)


async def test_what_ended_before_a_stream_began_is_not_told(stage: Stages) -> None:
    stage.room.end(stage.room.start("TR_a1"))
    view = stage.open()
    await view.take()
    await stage.beat(1, view)
    assert view.over == set()


async def test_a_track_that_goes_is_told_with_the_end_of_its_alerts(stage: Stages) -> None:
    every, changes = stage.open(), stage.open(only_changes=True)
    alert = stage.room.start("TR_a1")
    await every.take()
    await changes.take()
    stage.room.has({"bob": ["TR_v1"]})
    await stage.beat(1, every, changes)
    for view in (every, changes):
        assert list(view.messages[-1].gone_track_sids) == ["TR_a1"]
        assert list(view.reports) == ["TR_v1"]
    # The assessment ends it a moment later.
    stage.room.end(alert)
    await stage.beat(1, every, changes)
    for view in (every, changes):
        assert [found.alert_id for found in view.messages[-1].ended_alerts] == [alert]


async def test_two_readers_with_different_filters_get_their_own(stage: Stages) -> None:
    stage.room.rate("TR_v1", QUALITY_LEVEL_POOR)
    poor, alice = stage.open(filter=POOR), stage.open(filter='report.participant_identity == "alice"')
    await poor.take()
    await alice.take()
    assert (sids(poor), sids(alice)) == (["TR_v1"], ["TR_a1"])
    stage.room.rate("TR_v1", QUALITY_LEVEL_GOOD)
    stage.room.rate("TR_a1", QUALITY_LEVEL_POOR)
    await stage.beat(1, poor, alice)
    assert (sids(poor), sids(alice)) == (["TR_a1"], ["TR_a1"])
    assert not poor.messages[-1].gone_track_sids, "it is still in the room"


async def test_with_only_changes_what_matches_no_more_is_gone(stage: Stages) -> None:
    view = stage.open(filter=POOR, only_changes=True)
    assert not (await view.take()).reports
    stage.room.rate("TR_v1", QUALITY_LEVEL_POOR)
    await stage.beat(1, view)
    assert sids(view) == ["TR_v1"]
    stage.room.rate("TR_v1", QUALITY_LEVEL_GOOD)
    await stage.beat(1, view)
    assert (sids(view), list(view.messages[-1].gone_track_sids)) == ([], ["TR_v1"])


async def test_the_filter_is_held_against_the_alerts_that_ended_too(stage: Stages) -> None:
    alert = stage.room.start("TR_a1")
    either = stage.open(filter="size(report.alerts) > 0", only_changes=True)
    on = stage.open(filter="report.alerts.exists(a, !has(a.end_time))", only_changes=True)
    await either.take()
    await on.take()
    stage.room.end(alert)
    await stage.beat(1, either, on)
    assert sids(either) == ["TR_a1"]
    assert either.over == {alert}
    assert list(on.messages[-1].gone_track_sids) == ["TR_a1"]
    assert [found.alert_id for found in on.messages[-1].ended_alerts] == [alert]
    await stage.beat(1, either)
    assert list(either.messages[-1].gone_track_sids) == ["TR_a1"]


async def test_a_filter_that_fails_does_not_match(stage: Stages) -> None:
    view = stage.open(filter="report.measurements[0].rtt_ms.value > 100.0")
    assert not (await view.take()).reports


@pytest.mark.parametrize("bad", ["report.nothing", "report.track_sid", "report.muted &&", "track.muted"])
async def test_a_bad_filter_is_refused_with_its_position(stage: Stages, bad: str) -> None:
    with pytest.raises(InvalidExpression) as refused:
        await stage.open(filter=bad).take()
    assert refused.value.field == "filter"
    assert int(refused.value.metadata["line"]) >= 1
    assert len(stage.streams) == 0


async def test_what_is_not_in_the_room_is_not_found(stage: Stages) -> None:
    with pytest.raises(TrackNotFound):
        await stage.open(track_sids=["TR_none"]).take()
    with pytest.raises(ParticipantNotFound):
        await stage.open(participant_identity="nobody").take()
    assert len(stage.streams) == 0
