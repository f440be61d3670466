"""A recorded file says the same when it is replayed."""

import random

import pytest

from tests.quality.core.simulation import Link, Sound, down
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import Policy, Timing
from track_server.quality.core.assessment import Assessment
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Media, Source
from track_server.quality.core.recording import (
    BadRecording,
    begin_line,
    clock_line,
    end_line,
    expect_line,
    readings_line,
    receives_line,
    replay,
    tick_line,
)
from track_server.quality.core.scoring.score import Picture
from track_server.quality.core.watch import Subject


def assessment() -> Assessment:
    return Assessment(Adaptation(lambda _: Policy(), Timing(), random.Random(1)))


def test_replayed_lines_bring_the_same_alerts_and_actions() -> None:
    flow, subject = down(), Subject("TR_a", "alice", Media.AUDIO, Picture(640, 360, 30.0))
    sound = Sound(flow, Link(seed=1, loss=0.2), Source.SUBSCRIBER_STATS)
    live = assessment()
    live.begin(flow, subject)
    lines = [begin_line(0.0, flow, subject), expect_line(0.0, flow, Expected()), receives_line(0.0, flow, None)]
    seen = []
    for second in range(1, 60):
        reading = sound.second(float(second))
        lines.append(readings_line(float(second), flow, [reading]))
        live.add(flow, [reading])
        seen.append((float(second), live.tick(float(second))))
    assert list(replay([*lines, "\n"], assessment())) == seen
    assert any(each.actions for _, each in seen)
    assert len(list(replay([*lines, end_line(70.0, flow)], assessment()))) == 70


BEGIN = begin_line(1.0, down(), Subject("TR_a", "alice", Media.AUDIO))
FLOW = '"flow": ["TR_a", 2, "bob"]'
READING = '{"source": 3, "ssrc": 1, "time_s": 1.0, "arrival_s": 1.0}'


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        "1",
        '{"at": 1, "kind": "x", "flow": ["a", 1, "b"]}',
        '{"at": "soon", "flow": []}',
        '{"at": NaN, "kind": "tick"}',
        '{"at": Infinity, "kind": "tick"}',
        '{"at": true, "kind": "tick"}',
        '{"at": 0.5, "kind": "tick"}',
        '{"at": 100000, "kind": "tick"}',
        f'{{"at": 1{"0" * 400}, "kind": "tick"}}',
        '{"at": 2, "kind": "clock"}',
        '{"at": 2, "kind": "end"}',
        '{"at": 2, "kind": "end", "flow": ["TR_a", 3, "bob"]}',
        '{"at": 2, "kind": "end", "flow": ["TR_a", 2]}',
        f'{{"at": 2, "kind": "begin", {FLOW}}}',
        f'{{"at": 2, "kind": "begin", {FLOW}, "subject": {{"sid": "TR_a", "publisher": "a", "media": 7}}}}',
        f'{{"at": 2, "kind": "begin", {FLOW}, "subject": {{"sid": 1, "publisher": "a", "media": 1}}}}',
        f'{{"at": 2, "kind": "expect", {FLOW}, "expected": {{"muted": 1}}}}',
        f'{{"at": 2, "kind": "expect", {FLOW}, "expected": {{"mute": true}}}}',
        f'{{"at": 2, "kind": "receives", {FLOW}, "layer": "low"}}',
        f'{{"at": 2, "kind": "readings", {FLOW}, "readings": [1]}}',
        f'{{"at": 2, "kind": "readings", {FLOW}, "readings": [{{}}]}}',
        f'{{"at": 2, "kind": "readings", {FLOW}, "readings": [{READING[:-1]}, "lost": NaN}}]}}',
        f'{{"at": 2, "kind": "readings", {FLOW}, "readings": [{READING[:-1]}, "lost": "many"}}]}}',
        f'{{"at": 2, "kind": "readings", {FLOW}, "readings": [{READING[:-1]}, "limitation": 9}}]}}',
        f'{{"at": 2, "kind": "readings", {FLOW}, "readings": [{READING[:-1]}, "mos": 4}}]}}',
        "[" * 100_000,
    ],
)
def test_a_foreign_line_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(BadRecording, match=r"^line 3: ") as refused:
        list(replay([BEGIN, "", line], assessment()))
    assert refused.value.line == 3


def test_a_recording_with_ticks_is_looked_at_when_it_was() -> None:
    flow, subject = down(), Subject("TR_a", "alice", Media.AUDIO)
    told: list[tuple[float, float]] = []
    lines = [clock_line(0.5, 1_790_000_000.0), tick_line(0.5), begin_line(0.7, flow, subject), tick_line(2.6)]
    ticks = [at_s for at_s, _ in replay(lines, assessment(), clock=lambda *when: told.append(when))]
    assert ticks == [0.5, 2.6]
    assert told == [(0.5, 1_790_000_000.0)]
