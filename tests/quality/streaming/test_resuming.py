"""How quality streams end, and how others resume where they broke off."""

import asyncio

import pytest

from tests.quality.samples import settle
from tests.quality.streaming.told import Stages, ToldRoom, sids
from track.v1.quality_pb2 import QUALITY_LEVEL_POOR
from track_server.errors import Draining, Internal, InvalidCursor, ReaderTooSlow
from track_server.quality.streaming.board import KEPT_S


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
