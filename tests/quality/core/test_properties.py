"""Whatever is told, in whatever order: nothing breaks, nothing impossible is said, nothing is made of nothing."""

import math
import pickle
import random
from dataclasses import fields, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quality.core.simulation import down, up
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import HIGH, LOW, Policy, Timing
from track_server.quality.core.assessment import Assessment
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Limitation, Media, Reading, Source
from track_server.quality.core.measuring.sample import Number, Sample, Share
from track_server.quality.core.recording import (
    begin_line,
    end_line,
    expect_line,
    readings_line,
    receives_line,
    replay,
)
from track_server.quality.core.scoring.score import Picture
from track_server.quality.core.watch import Subject, Watch

FLOWS = {
    up("TR_a"): Subject("TR_a", "alice", Media.AUDIO),
    down("TR_a", "bob"): Subject("TR_a", "alice", Media.AUDIO),
    up("TR_v"): Subject("TR_v", "alice", Media.VIDEO, Picture(1280, 720, 30.0)),
    down("TR_v", "bob"): Subject("TR_v", "alice", Media.VIDEO),
    down("TR_v", "carol"): Subject("TR_v", "alice", Media.VIDEO),
}
TELLS = {
    "loss_before": ("lost",),
    "loss_after": ("lost",),
    "jitter_ms": ("jitter_ms",),
    "rtt_ms": ("rtt_ms",),
    "bitrate_bps": ("payload_bytes",),
    "frames_per_second": ("frames",),
    "width": ("width",),
    "height": ("height",),
    "frozen": ("frames",),
    "freezing_s": ("frames",),
    "concealed": ("concealed",),
    "buffer_ms": ("buffer_s",),
    "stalled_s": ("packets", "payload_bytes", "last_packet_s"),
    "gap_s": ("packets", "payload_bytes", "last_packet_s"),
    "stuck_s": ("frames",),
    "limitation": ("limitation",),
    "resent_per_second": ("resent",),
    "cpu_limited": ("limitation",),
    "bandwidth_limited": ("limitation",),
    "cpu_load": ("cpu_load",),
    "audio_level": ("audio_level",),
    "brightness": ("brightness",),
    "sfu_score": (),
}
"""Which of a reading's numbers a sample's is made of: without any of them it is absent."""

SEED = st.integers(0, 2**32)

STEPS_S = (1.0, 1.0, 1.0, 0.2, -2.5, 0.0, 7.0, 60.0, -20.0)
"""How far a clock may go from one reading to the next."""

PASSED_S = (0.2, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 16.0)
SOURCES = (Source.PUBLISHER_STATS, Source.SUBSCRIBER_STATS, Source.COMPANION, Source.REPORTED)


def anything(chance: random.Random) -> dict[str, Any]:
    """Some numbers of a reading, each as large as is believed at most."""

    def count() -> int:
        return chance.choice([0, 1, 2**31, 2**48, chance.randrange(300), chance.randrange(300)])

    def gauge() -> float:
        return chance.choice([0.0, 60_000.0, chance.random()])

    values: dict[str, Any] = {
        "ssrc": chance.randint(1, 3),
        "rid": chance.choice(["", "q", "f"]),
        "lost": chance.choice([-(2**48), 2**48, chance.randint(-300, 300)]),
        "lost_before_repair": chance.random() < 0.5,
        "lost_time_s": chance.choice(STEPS_S),
        "last_packet_s": chance.choice(STEPS_S),
        "width": chance.choice([0, 320, 16_384]),
        "height": chance.choice([0, 180, 16_384]),
        "limitation": chance.choice([*Limitation]),
        **{name: count() for name in COUNTS},
        **{name: gauge() for name in ("freezes_s", "buffer_s", "jitter_ms", "rtt_ms")},
        **{name: chance.random() for name in ("audio_level", "brightness", "cpu_load")},
    }
    share = chance.random()
    return {name: value for name, value in values.items() if chance.random() < share}


COUNTS = ("packets", "resent", "nacks", "payload_bytes", "frames", "concealed", "samples", "buffered")


def room() -> Assessment:
    return Assessment(Adaptation(lambda _: Policy(hold_back=0.2), Timing(), random.Random(1)))


def lines(seed: int, steps: int) -> tuple[list[str], dict[Flow, set[str]]]:
    """Whatever may happen, as a recording; and which numbers of each flow were ever told."""
    chance = random.Random(seed)
    told: dict[Flow, set[str]] = {flow: set() for flow in FLOWS}
    found = [begin_line(0.0, flow, subject) for flow, subject in FLOWS.items()]
    now_s, clock_s = 0.0, 1e9
    counters = dict.fromkeys(FLOWS, Reading(source=Source.REPORTED, ssrc=1, time_s=0.0, arrival_s=0.0))
    for _ in range(steps):
        flow = chance.choice(list(FLOWS))
        made: list[Reading] = []
        match chance.randrange(12):
            case 0:
                expected = Expected(
                    muted=chance.random() < 0.3, wanted=chance.random() < 0.7, sent=chance.choice([None, True, False]),
                    screen=chance.random() < 0.3,
                )  # fmt: skip
                found.append(expect_line(now_s, flow, expected))
            case 1:
                found.append(receives_line(now_s, flow, chance.choice([None, LOW, HIGH])))
            case 2 if chance.random() < 0.3:
                found += [end_line(now_s, flow), begin_line(now_s, flow, FLOWS[flow])]
            case 2 | 3 | 4:
                passed_s = chance.choice(PASSED_S)
                now_s, clock_s = now_s + passed_s, clock_s + passed_s
            case 5 | 6:
                source, time_s = chance.choice(SOURCES), clock_s + chance.choice(STEPS_S)
                made = [reading(source, now_s, time_s, anything(chance)) for _ in range(chance.randint(1, 3))]
            case _:
                # Counters that go on, so that there is something to take a difference of.
                before = counters[flow]
                made = [replace(grown(before), source=Source.COMPANION, arrival_s=now_s, time_s=clock_s)]
                counters[flow] = made[0]
        if made:
            found.append(readings_line(now_s, flow, made))
            told[flow] |= {name for each in made for name in each.__slots__ if getattr(each, name) is not None}
    return found, told


def reading(source: Source, now_s: float, time_s: float, values: dict[str, Any]) -> Reading:
    times = {
        name: None if values.get(name) is None else time_s + values[name] for name in ("lost_time_s", "last_packet_s")
    }
    return Reading(**{"source": source, "ssrc": 1, "time_s": time_s, "arrival_s": now_s, **values, **times})


def grown(before: Reading) -> Reading:
    return replace(
        before, packets=(before.packets or 0) + 40, payload_bytes=(before.payload_bytes or 0) + 40_000,
        lost=(before.lost or 0) + 10, frames=(before.frames or 0) + 30, samples=(before.samples or 0) + 48_000,
        concealed=(before.concealed or 0) + 9_600, resent=before.resent or 0, rtt_ms=50.0, height=180, width=320,
    )  # fmt: skip


def possible(sample: Sample, told: set[str]) -> None:
    for name, tells in TELLS.items():
        value = getattr(sample, name)
        if value is None:
            continue
        assert told & set(tells), f"{name} is made of nothing"
        match value:
            case Share():
                assert value.whole > 0
                assert 0 <= value.part <= value.whole + 1e-6
                assert value.age_s >= 0
            case float():
                assert 0 <= value < math.inf
            case Number():
                assert math.isfinite(value.value)
                assert value.value >= 0
                assert value.age_s >= 0
                assert name not in ("audio_level", "brightness", "cpu_load", "cpu_limited") or value.value <= 1
    assert sample.window_s is None or 0.5 <= sample.window_s <= 66


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEED, st.integers(10, 150))
def test_no_number_is_impossible_or_made_of_nothing_and_a_replay_is_the_same(seed: int, steps: int) -> None:
    recorded, told = lines(seed, steps)
    first = list(replay(recorded, room()))
    assert first == list(replay(recorded, room()))
    for _, assessed in first:
        for flow, seen in assessed.seen.items():
            if seen.sample is not None:
                possible(seen.sample, told[flow])
            assert seen.score is None or 1 <= seen.score <= 5
            assert seen.score is None or "rtt_ms" in told[flow]
            for change in seen.changes:
                assert change.evidence.part >= 0
                assert math.isfinite(change.evidence.value)


def test_every_number_of_a_sample_is_looked_at() -> None:
    assert set(TELLS) == {each.name for each in fields(Sample)} - {"rid", "ssrc", "window_s", "sends"}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEED, st.integers(10, 150))
def test_windows_of_all_lengths_and_layers_are_possible(seed: int, steps: int) -> None:
    recorded, told = lines(seed, steps)
    assessment = room()
    watches = {flow: assessment.begin(flow, subject) for flow, subject in FLOWS.items()}
    for now_s, _ in replay([line for line in recorded if '"kind": "begin"' not in line], assessment):
        for flow, watch in watches.items():
            for span_s in (1.0, 5.0, 60.0):
                total = watch.meter.total(span_s, now_s)
                for sample in [*([] if total is None else [total]), *watch.meter.layers(span_s, now_s)]:
                    possible(sample, told[flow])


def test_what_a_flow_keeps_is_bounded() -> None:
    chance = random.Random(2)
    flow = down("TR_v")
    watch = Watch(flow, Subject("TR_v", "alice", Media.VIDEO))
    sizes = []
    for second in range(900):
        for source in (Source.SUBSCRIBER_STATS, Source.COMPANION, Source.REPORTED):
            now_s = second + chance.random() / 3
            many = [
                Reading(
                    source=source, ssrc=chance.randrange(2**32) if second % 7 == 0 else ssrc, time_s=1e9 + now_s,
                    arrival_s=now_s, packets=100 * second, lost=second * chance.randrange(9), frames=30 * (second // 3),
                    payload_bytes=90_000 * second, rtt_ms=chance.random() * 900,
                )
                for ssrc in range(18)
            ]  # fmt: skip
            watch.add(many)
        watch.tick(float(second))
        if second % 30 == 29:
            sizes.append(len(pickle.dumps(watch)))
    assert max(sizes[10:]) <= 1.5 * max(sizes[:10])
