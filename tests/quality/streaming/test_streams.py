"""The beat of a quality stream: one message for all readers of a choice, and the newest for the slow."""

import asyncio

from tests.quality.samples import settle
from tests.quality.streaming.told import Stages, sids
from track.v1.quality_pb2 import QUALITY_LEVEL_GOOD, QUALITY_LEVEL_POOR
from track_server.quality.streaming.parts import PART_BYTES
from track_server.quality.streaming.ticker import FIRST_REUSE_S


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
