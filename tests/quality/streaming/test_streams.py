"""The quality stream: one message a beat for all of a choice, the newest for the slow, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.quality.samples import settle
from tests.quality.streaming.told import Stage, ToldRoom, View
from track.v1.quality_pb2 import QUALITY_LEVEL_GOOD, QUALITY_LEVEL_POOR
from track_server.errors import (
    Draining,
    Internal,
    InvalidCursor,
    InvalidExpression,
    ParticipantNotFound,
    ReaderTooSlow,
    TrackNotFound,
)
from track_server.quality.streaming.board import KEPT_S
from track_server.quality.streaming.parts import PART_BYTES
from track_server.quality.streaming.ticker import FIRST_REUSE_S

POOR = "report.measurements.exists(m, m.level == QualityLevel.QUALITY_LEVEL_POOR)"


class Stages(Stage):
    """A stage whose readers leave at its end."""

    def __init__(self, patience_s: float = 60.0) -> None:
        super().__init__(patience_s)
        self.views: list[View] = []

    def open(self, room: ToldRoom | None = None, **fields: Any) -> View:
        self.views.append(super().open(room, **fields))
        return self.views[-1]

    async def beat(self, seconds: float, *views: View) -> None:
        """The views ask, the time passes, and they take what there is."""
        for view in views:
            _ = view.ask()
        await settle()
        await self.clock.advance(seconds)
        for view in views:
            if view.ask().done():
                await view.take()


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stages]:
    result = Stages()
    async with result.streams:
        yield result
        for view in result.views:
            await view.aclose()


def sids(view: View) -> list[str]:
    return [report.track_sid for report in view.messages[-1].reports]


async def test_the_first_message_comes_at_once_and_then_one_each_interval(stage: Stages) -> None:
    view = stage.open(interval_s=5)
    first = await view.take()
    assert sids(view) == ["TR_a1", "TR_v1"]
    assert (first.resync, first.more) == (False, False)
    asked = view.ask()
    await stage.clock.advance(4.9)
    assert not asked.done()
    await stage.clock.advance(0.1)
    second = await view.take()
    assert second.time.ToNanoseconds() - first.time.ToNanoseconds() == 5e9
    assert second.cursor != first.cursor


async def test_a_message_is_made_once_for_all_readers_of_a_choice(stage: Stages) -> None:
    views = [stage.open() for _ in range(50)]
    raws = await asyncio.gather(*(anext(view.stream) for view in views))
    assert stage.room.made == 2
    assert len({id(raw) for raw in raws}) == 1, "the same bytes, not equal ones"
    for turn in (2, 3, 4):
        following = [asyncio.ensure_future(anext(view.stream)) for view in views]
        await settle()
        await stage.clock.advance(1)
        raws = await asyncio.gather(*following)
        assert stage.room.made == 2 * turn
        assert len({id(raw) for raw in raws}) == 1
    assert len(stage.streams) == 1
    assert stage.followed == ["room"]


async def test_choices_with_the_same_windows_share_the_reports(stage: Stages) -> None:
    for fields in ({}, {"participant_identity": "alice"}, {"filter": "report.muted"}, {"only_changes": True}):
        await stage.open(**fields).take()
    assert len(stage.streams) == 4
    assert stage.room.made == 2
    await stage.open(windows_s=[5]).take()
    assert stage.room.made == 4


async def test_windows_are_those_asked_for_shortest_first(stage: Stages) -> None:
    stage.room.rate("TR_a1", QUALITY_LEVEL_GOOD)
    view = stage.open(windows_s=[60, 1, 5], track_sids=["TR_a1"])
    (report,) = (await view.take()).reports
    assert [measurement.window.seconds for measurement in report.measurements] == [1, 5, 60]
    view = stage.open(interval_s=3, track_sids=["TR_a1"])
    (report,) = (await view.take()).reports
    assert [measurement.window.seconds for measurement in report.measurements] == [3]


async def test_a_late_reader_begins_with_the_present_and_then_shares_the_beat(stage: Stages) -> None:
    early = stage.open(interval_s=10)
    await early.take()
    _ = early.ask()
    await stage.clock.advance(4)
    late = stage.open(interval_s=10)
    first = await late.take()
    assert first.time.ToNanoseconds() - early.messages[0].time.ToNanoseconds() == 4e9
    await stage.beat(6, early, late)
    assert late.messages[-1] == early.messages[-1]


async def test_readers_who_begin_together_share_the_first_message(stage: Stages) -> None:
    early, late = stage.open(), stage.open()
    await early.take()
    await stage.clock.advance(FIRST_REUSE_S / 2)
    assert await late.take() == early.messages[0]


async def test_of_readers_who_come_at_once_one_looks_for_all(stage: Stages) -> None:
    # So many tracks that a look at them lets others have their turn.
    stage.room.has({"alice": [f"TR_a{number}" for number in range(100)]})
    views = [stage.open(filter="!report.muted") for _ in range(5)]
    await asyncio.gather(*(view.take() for view in views))
    assert len({view.cursor for view in views}) == 1


async def test_a_slow_reader_gets_the_newest_and_not_a_queue(stage: Stages) -> None:
    slow, quick = stage.open(), stage.open()
    await slow.take()
    await quick.take()
    for turn in range(10):
        stage.room.bitrates["TR_a1"] = turn
        stage.room.rate("TR_a1", QUALITY_LEVEL_GOOD)
        await stage.beat(1, quick)
    await slow.take()
    assert slow.reports == quick.reports
    assert len(slow.messages) == 2
    asked = slow.ask()
    await settle()
    assert not asked.done()


async def test_turns_that_were_missed_are_left_out_and_the_beat_is_kept(stage: Stages) -> None:
    view = stage.open()
    await view.take()
    _ = view.ask()
    await settle()
    stage.clock._now_s += 3.4  # the loop was held up
    await stage.beat(0, view)
    assert len(view.messages) == 2
    asked = view.ask()
    await stage.clock.advance(0.5)
    assert not asked.done()
    await stage.beat(0.1, view)
    assert len(view.messages) == 3


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


async def test_a_stream_resumes_where_another_broke_off(stage: Stages) -> None:
    view = stage.open(only_changes=True)
    stage.room.has({"alice": ["TR_a1"], "bob": ["TR_v1"], "carol": ["TR_a2"]})
    alert = stage.room.start("TR_a1")
    await view.take()
    cursor = view.cursor
    await view.aclose()
    await settle()
    assert len(stage.streams) == 0
    stage.room.has({"alice": ["TR_a1"], "bob": ["TR_v1"]})
    stage.room.end(alert)
    await stage.clock.advance(KEPT_S - 1)
    back = stage.open(only_changes=True, cursor=cursor)
    message = await back.take()
    assert not message.resync
    assert sids(back) == ["TR_a1"]
    assert back.over == {alert}
    assert list(message.gone_track_sids) == ["TR_a2"]
    again = stage.open(only_changes=True, cursor=message.cursor)
    message = await again.take()
    assert (list(message.reports), list(message.gone_track_sids), message.resync) == ([], [], False)


async def test_a_full_stream_resumes_with_all_reports_and_what_ended_and_went(stage: Stages) -> None:
    view = stage.open()
    alert = stage.room.start("TR_a1")
    await view.take()
    await view.aclose()
    stage.room.end(alert)
    stage.room.has({"alice": ["TR_a1"]})
    back = stage.open(cursor=view.cursor)
    message = await back.take()
    assert sids(back) == ["TR_a1"]
    assert back.over == {alert}
    assert list(message.gone_track_sids) == ["TR_v1"]


async def test_a_named_track_that_went_meanwhile_does_not_hinder_a_stream_that_resumes(stage: Stages) -> None:
    view = stage.open(track_sids=["TR_a1"])
    await view.take()
    await view.aclose()
    stage.room.has({"bob": ["TR_v1"]})
    back = stage.open(track_sids=["TR_a1"], cursor=view.cursor)
    assert list((await back.take()).gone_track_sids) == ["TR_a1"]


async def test_a_cursor_of_another_choice_or_life_begins_again(stage: Stages) -> None:
    view = stage.open()
    await view.take()
    other = stage.open(only_changes=True, cursor=view.cursor)
    assert (await other.take()).resync
    assert sids(other) == ["TR_a1", "TR_v1"]
    await stage.beat(1, other)
    assert not other.messages[-1].resync or len(other.messages) == 1
    life, _, number = view.cursor.rpartition("-")
    assert (await stage.open(cursor=f"{life}-{int(number) + 9}").take()).resync
    assert (await stage.open(cursor=f"{'0' * 12}-1").take()).resync


async def test_a_cursor_from_which_something_was_forgotten_begins_again(stage: Stages) -> None:
    staying, leaving = stage.open(interval_s=10), stage.open(interval_s=10)
    await staying.take()
    await leaving.take()
    await leaving.aclose()
    stage.room.has({"alice": ["TR_a1"]})
    for _ in range(33):
        await stage.beat(10, staying)
    assert (await stage.open(interval_s=10, cursor=leaving.cursor).take()).resync
    assert not (await stage.open(interval_s=10, cursor=staying.cursor).take()).resync


@pytest.mark.parametrize("bad", ["x", "0-0", "00000000-1", "0123456789ab-0", "0123456789ab-1 "])
async def test_what_is_no_cursor_is_refused(stage: Stages, bad: str) -> None:
    with pytest.raises(InvalidCursor):
        await stage.open(cursor=bad).take()


async def test_what_is_large_comes_in_several_messages(stage: Stages) -> None:
    tracks = {f"p{number:03}": [f"TR_a{number}"] for number in range(300)}
    stage.room.has(tracks)
    stage.room.padding = "x" * 1000
    view = stage.open(only_changes=True)
    while (await view.take()).more:
        assert view.cursor == ""
    assert len(view.messages) == 3
    assert all(message.ByteSize() < PART_BYTES + 2_000 for message in view.messages)
    assert len(view.reports) == 300
    assert len({message.time.ToNanoseconds() for message in view.messages}) == 1
    cursor = view.cursor
    for sid in ("TR_a0", "TR_a299"):
        stage.room.rate(sid, QUALITY_LEVEL_POOR)
    await stage.beat(1, view)
    assert sids(view) == ["TR_a0", "TR_a299"]
    stage.room.padding = "y" * 1000
    for number in range(300):
        stage.room.rate(f"TR_a{number}", QUALITY_LEVEL_GOOD)
    await stage.beat(1, view)
    assert view.messages[-1].more
    assert view.cursor not in ("", cursor)
    before = view.cursor
    assert (await view.take()).cursor == before


async def test_a_reader_that_stopped_is_cut_off_with_where_to_resume() -> None:
    stage = Stages(patience_s=0.2)
    async with stage.streams:
        stopped, reading = stage.open(), stage.open()
        await stopped.take()
        await reading.take()
        async with asyncio.timeout(20):
            while not stage.ended:
                # The reader that reads waits for the next message.
                _ = reading.ask()
                await asyncio.sleep(0.02)
        (error,) = stage.ended
        assert isinstance(error, ReaderTooSlow)
        assert error.metadata["cursor"] == stopped.cursor
        assert error.retry_delay_s
        back = stage.open(cursor=error.metadata["cursor"])
        assert not (await back.take()).resync
        for view in stage.views:
            await view.aclose()


async def test_a_ticker_ends_with_its_last_reader_and_the_room_is_followed_no_more(stage: Stages) -> None:
    first, second = stage.open(), stage.open()
    await first.take()
    await second.take()
    await first.aclose()
    await settle()
    assert (len(stage.streams), stage.left) == (1, [])
    await second.aclose()
    await settle()
    assert (len(stage.streams), stage.left) == (0, ["room"])
    made = stage.room.made
    await stage.clock.advance(60)
    assert stage.room.made == made


async def test_who_comes_as_the_last_reader_leaves_is_served(stage: Stages) -> None:
    leaving = stage.open()
    await leaving.take()
    await leaving.aclose()
    coming = stage.open()
    await coming.take()
    await stage.beat(1, coming)
    assert len(coming.messages) == 2


async def test_a_reader_that_leaves_before_its_first_message_leaves_nothing(stage: Stages) -> None:
    view = stage.open()
    _ = view.ask()
    await view.aclose()
    await settle()
    assert len(stage.streams) == 0
    assert len(stage.followed) == len(stage.left)


async def test_a_reader_that_is_cancelled_takes_nobody_along(stage: Stages) -> None:
    staying, leaving = stage.open(), stage.open()
    await staying.take()
    await leaving.take()
    gone = leaving.ask()
    _ = staying.ask()
    await settle()
    gone.cancel()
    await stage.beat(1, staying)
    assert len(staying.messages) == 2


async def test_streams_end_when_the_room_closes(stage: Stages) -> None:
    views = [stage.open(), stage.open(interval_s=5)]
    for view in views:
        await view.take()
    following = [view.ask() for view in views]
    await settle()
    stage.room.live.close("ROOM_CLOSED")
    assert [type(end) for end in await asyncio.gather(*following, return_exceptions=True)] == [StopAsyncIteration] * 2
    await settle()
    assert (len(stage.streams), stage.left) == (0, ["room"])
    closed = stage.open()
    with pytest.raises(StopAsyncIteration):
        await closed.take()


@pytest.mark.parametrize("only_changes", [False, True])
async def test_an_alert_that_ends_with_the_room_is_told_before_the_stream_ends(
    stage: Stages, only_changes: bool
) -> None:
    alert_id = stage.room.start("TR_a1")
    view = stage.open(only_changes=only_changes)
    await view.take()
    _ = view.ask()
    await settle()
    stage.room.end(alert_id)
    stage.room.live.close("ROOM_CLOSED")
    await view.take()
    assert view.over == {alert_id}
    with pytest.raises(StopAsyncIteration):
        await view.take()


async def test_a_slow_reader_gets_the_last_state_of_a_room_that_closed(stage: Stages) -> None:
    slow, quick = stage.open(), stage.open()
    await slow.take()
    await quick.take()
    stage.room.rate("TR_a1", QUALITY_LEVEL_POOR)
    await stage.beat(1, quick)
    await stage.beat(0, quick)
    stage.room.live.close("ROOM_CLOSED")
    await settle()
    await slow.take()
    assert slow.reports == quick.reports
    with pytest.raises(StopAsyncIteration):
        await slow.take()


async def test_the_next_life_of_a_room_is_told_as_a_change_to_who_resumes(stage: Stages) -> None:
    view = stage.open(only_changes=True)
    await view.take()
    asked = view.ask()
    await settle()
    stage.room.live.close("ROOM_CLOSED")
    await asyncio.gather(asked, return_exceptions=True)
    await settle()
    again = ToldRoom(stage.clock, {"alice": ["TR_a2"]})
    stage.rooms[again.live] = again
    back = stage.open(again, only_changes=True, cursor=view.cursor)
    message = await back.take()
    assert (sids(back), list(message.gone_track_sids)) == (["TR_a2"], ["TR_a1", "TR_v1"])


async def test_a_report_that_cannot_be_made_ends_the_streams_with_an_error(stage: Stages) -> None:
    views = [stage.open(), stage.open()]
    for view in views:
        await view.take()
    following = [view.ask() for view in views]
    await settle()
    stage.room.broken = True
    await stage.clock.advance(1)
    for end in await asyncio.gather(*following, return_exceptions=True):
        assert isinstance(end, Internal)
        assert isinstance(end.__cause__, RuntimeError)
    await settle()
    assert len(stage.streams) == 0


async def test_closing_ends_all_streams_with_draining(stage: Stages) -> None:
    view = stage.open()
    await view.take()
    following = view.ask()
    await settle()
    await stage.streams.aclose()
    await stage.streams.aclose()
    with pytest.raises(Draining):
        await following
    with pytest.raises(Draining):
        await stage.open().take()
