"""Whoever reads, however slowly: in the end it has seen the same."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quality.samples import settle
from tests.quality.streaming.told import Stage, View, without_ends
from track.v1.quality_pb2 import QUALITY_LEVEL_EXCELLENT, QUALITY_LEVEL_GOOD, QUALITY_LEVEL_POOR, TrackQualityReport
from track_server.quality.streaming.sheet import standing

SIDS = ("TR_a1", "TR_a2", "TR_v1", "TR_v2")
LEVELS = (QUALITY_LEVEL_EXCELLENT, QUALITY_LEVEL_GOOD, QUALITY_LEVEL_POOR)
FILTERS = (
    "",
    "report.measurements.exists(m, m.level == QualityLevel.QUALITY_LEVEL_POOR)",
    "report.alerts.exists(a, !has(a.end_time))",
)


@dataclass(frozen=True, slots=True)
class Step:
    """What happens in a second. ``present``: which tracks; ``rated``: one of them, and its level; ``start``, ``end``:
    alerts that go on and off; ``reads``: the slow reader takes a message; ``breaks``: its connection breaks first."""

    present: frozenset[str]
    rated: tuple[str, int]
    start: str | None
    end: int | None
    reads: bool
    breaks: bool


steps = st.builds(
    Step,
    st.frozensets(st.sampled_from(SIDS), min_size=1),
    st.tuples(st.sampled_from(SIDS), st.integers(0, 2)),
    st.none() | st.sampled_from(SIDS),
    st.none() | st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=1, max_size=12), st.sampled_from(FILTERS), st.booleans())
def test_a_slow_readers_view_in_the_end_is_that_of_a_fast_one(
    happening: list[Step], condition: str, only: bool
) -> None:
    asyncio.run(_read(happening, condition, only))


async def _read(happening: list[Step], condition: str, only: bool) -> None:
    stage = Stage()

    async def another(cursor: str = "") -> View:
        return stage.open(filter=condition, only_changes=only, cursor=cursor)

    async with stage.streams:
        fast, slow = await another(), await another()
        await fast.take()
        await slow.take()
        for step in happening:
            _happen(stage, step)
            _ = fast.ask()
            await settle()
            await stage.clock.advance(1)
            if fast.ask().done():
                await fast.take()
            if step.breaks:
                await slow.aclose()
                slow = await _resumed(slow, another)
            if step.reads:
                await _catch_up(slow)
        await _catch_up(slow)
        assert _view(slow) == _view(fast)
        assert slow.over == fast.over
        if not only:
            assert {sid: _numbers(report) for sid, report in slow.reports.items()} == {
                sid: _numbers(report) for sid, report in fast.reports.items()
            }
        await fast.aclose()
        await slow.aclose()


def _happen(stage: Stage, step: Step) -> None:
    room = stage.room
    tracks = {f"of {sid}": [sid] for sid in sorted(step.present)}
    room.has(tracks)
    sid, level = step.rated
    room.rate(sid, LEVELS[level])
    if step.start in step.present:
        room.start(step.start)
    if room.alerts and step.end is not None:
        room.end(sorted(room.alerts)[step.end % len(room.alerts)])
    for alert_id, alert in list(room.alerts.items()):
        if alert.track_sid not in step.present:
            room.end(alert_id)


async def _resumed(view: View, another: Callable[[str], Awaitable[View]]) -> View:
    """Another stream that goes on where that one broke off."""
    again = await another(view.cursor)
    again.reports, again.over = view.reports, view.over
    await again.take()
    return again


async def _catch_up(view: View) -> None:
    """Takes what there is: what is on its way already, and then the newest."""
    while True:
        asked = view.ask()
        await settle()
        if not asked.done():
            return
        await view.take()


def _view(view: View) -> dict[str, int]:
    """What stands, by track."""
    return {sid: standing(without_ends(report)) for sid, report in view.reports.items()}


def _numbers(report: TrackQualityReport) -> bytes:
    return without_ends(report).SerializeToString(deterministic=True)
