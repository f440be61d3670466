"""From judged runs to figures, hours of replayed readings, and the page."""

import json
import random
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Final

import pytest

from bench.figures import Figure
from bench.impairment import adaptation
from bench.impairment.adaptation import Adapted
from bench.impairment.choir import Mark, judged_by_pieces
from bench.impairment.judgement import Judgement
from bench.impairment.judging import Find
from bench.impairment.machine import Ticks, udp_drops
from bench.impairment.page import page
from bench.impairment.profiles import PROFILES, SUBSCRIBERS, Hop, Incident, planned
from bench.impairment.replayed import Recorded, changes, hour, recorded
from bench.impairment.summary import figures, row
from bench.impairment.told import Everything, Told, ToldAlert
from bench.impairment.told import Flow as ToldFlow
from track.v1 import quality_alert_pb2 as qa
from track.v1.quality_pb2 import QualityMeasurement
from track_server.quality.core.measuring.reading import Flow, Media, Reading, Source
from track_server.quality.core.measuring.reading import Hop as CoreHop
from track_server.quality.core.recording import begin_line, clock_line, readings_line, tick_line
from track_server.quality.core.watch import Subject

FLOW: Final = Flow("TR_1", CoreHop.DOWNLINK, "alice")
KEY: Final = ("TR_1", 2, "alice")
SUBJECT: Final = Subject("TR_1", "bob", Media.AUDIO)
LOAD: Final = {"steal": 0.0, "busy": 0.5, "load": 1.0}


def judgement(name: str = "run", **fields: object) -> Judgement:
    made = Judgement(name, name, "uplink", False, LOAD, 100.0)
    made.drawn = {"kind": "sound", "told": [(1.0, 2.0)], "true": [(1.0, 2.5)], "alerts": [], "phases": [(0.5, 2.0)]}
    return replace(made, **fields)  # type: ignore[arg-type]  # as named


def of(found: list[Figure], words: str) -> Figure:
    (figure,) = [each for each in found if words in each.figure]
    return figure


def find(found_s: float | None, cleared_s: float | None, *, already: bool = False) -> Find:
    return Find(ToldFlow("TR_1", 1, "bob"), 0.0, found_s, cleared_s, already)


def test_one_bad_run_is_seen_in_the_figures() -> None:
    good = judgement(loss_60=[0.1] * 20, loss_5=[1.0] * 20, rtt=[0.2] * 20, bitrate=[0.01] * 20, frames=[0.2] * 20)
    names = ("lost over 60 s", "lost over 5 s", "round trip", "bit rate", "frames")
    assert all(of(figures([good], ""), name).holds for name in names)
    bad = judgement(loss_60=[0.5] * 2, loss_5=[3.0] * 2, rtt=[2.0] * 2, bitrate=[0.2] * 2, frames=[5.0] * 2)
    assert not any(of(figures([good, bad], ""), name).holds for name in names)


def test_what_is_never_found_or_cleared_fails_the_figure() -> None:
    good = [find(3.0, 10.0) for _ in range(30)]
    found = figures([judgement(latency="stall", finds=good)], "")
    assert of(found, "stall or blackout found, p95").holds
    assert of(found, "cleared").holds
    missed = [*good, find(None, None), find(None, None)]
    assert not of(figures([judgement(latency="stall", finds=missed)], ""), "stall or blackout found, p95").holds
    stuck = [*good, find(3.0, None), find(3.0, None)]
    found = figures([judgement(latency="stall", finds=stuck)], "")
    assert of(found, "stall or blackout found, p95").holds
    assert not of(found, "cleared").holds
    nothing = [find(None, None, already=True)]
    assert of(figures([judgement(latency="stall", finds=[*good, *nothing])], ""), "stall or blackout found, p95").holds


def test_loss_is_held_to_its_median_as_well() -> None:
    slow = figures([judgement(latency="loss", finds=[find(6.0, 10.0)] * 10)], "")
    assert not of(slow, "loss of 10 % found, p50").holds
    assert of(slow, "loss of 10 % found, p95").holds


def test_one_false_alarm_is_one_too_many() -> None:
    clean = judgement(clean_s=3600.0, cpu=2)
    assert of(figures([clean], ""), "false alarms").holds
    alarmed = of(figures([clean, judgement(false=["stalled"])], ""), "false alarms")
    assert (alarmed.holds, alarmed.value) == (False, 1)
    assert "1.00 track-hours" in alarmed.note


def test_causes_are_right_in_nine_of_ten() -> None:
    assert of(figures([judgement(causes=(9, 10))], ""), "right cause").holds
    wrong = of(figures([judgement(causes=(17, 20), wrong_causes=["loss, server"])], ""), "right cause")
    assert not wrong.holds
    assert "loss, server" in wrong.note


def test_runs_in_which_the_machine_lost_packets_itself_count_for_nothing() -> None:
    unknown = judgement(loss_60=[9.0], false=["stalled"], causes=(0, 9), clean_s=3600.0, beside=1)
    found = figures([unknown, judgement(loss_60=[0.1], clean_s=3600.0)], "")
    assert all(each.holds for each in found)
    assert "1 runs left out" in of(found, "false alarms").note


def test_the_choir_loses_no_more_than_the_pieces_in_which_the_machine_dropped_something() -> None:
    flow = ToldFlow("TR_1", 1, "bob")
    reports = [Told(1000.0 + second, flow, QualityMeasurement()) for second in range(0, 101, 5)]
    stalled = ToldAlert("QA_1", qa.QUALITY_ALERT_KIND_STALLED, flow, 2, 1045.0)
    busy = ToldAlert("QA_2", qa.QUALITY_ALERT_KIND_CPU, flow, 2, 1090.0)
    drops = (3, 3, 3, 7, 7, 7)
    marks = [Mark(1000.0 + 20 * number, Ticks.now(), each) for number, each in enumerate(drops)]
    found = judged_by_pieces(Everything(reports, [stalled, busy]), 12, marks)
    known = of(figures(found, ""), "false alarms")
    assert (known.holds, known.value) == (True, 0)
    # 60 of 100 s: the third piece lost datagrams, and the fourth came after it.
    assert "0.02 track-hours" in known.note
    assert "1 CPU alerts" in known.note
    quiet = [replace(each, drops=3) for each in marks]
    alarmed = of(figures(judged_by_pieces(Everything(reports, [stalled]), 12, quiet), ""), "false alarms")
    assert (alarmed.holds, alarmed.value) == (False, 1)
    assert "stalled uplink" in alarmed.note


def test_bursts_are_told_beside_what_is_judged() -> None:
    slow = figures([judgement(latency="bursts", finds=[find(14.0, 10.0)] * 10)], "")
    told = of(slow, "in bursts of 5 found, p95")
    assert (told.value, told.goal) == (14.0, None)
    assert not [each for each in slow if each.figure.startswith("loss of 10 % found")]


def test_tuned_profiles_count_for_no_figure_of_alerts() -> None:
    tuned = judgement(tuned=True, latency="stall", finds=[find(None, None)], false=["x"], causes=(0, 9), replayed=[99])
    found = figures([tuned, judgement(clean_s=10.0)], "")
    assert of(found, "false alarms").holds
    assert not [each for each in found if "stall" in each.figure or "cause" in each.figure or "hour" in each.figure]


def test_changes_on_a_threshold_have_a_bound_of_their_own() -> None:
    found = figures([judgement(replayed=[0, 1]), judgement(replayed=[4, 4, 1], border=True)], "")
    assert of(found, "off a threshold").holds
    assert of(found, "on a threshold").holds
    assert not of(figures([judgement(replayed=[3, 3])], ""), "off a threshold").holds


def readings(loss: float, count: int = 70, seed: int = 3) -> list[Reading]:
    """A second of sound each."""
    draw = random.Random(seed)
    found, packets, lost = [], 0, 0
    for at in range(count):
        gone = sum(draw.random() < loss for _ in range(50))
        packets, lost = packets + 50 - gone, lost + gone
        told = Reading(
            source=Source.SUBSCRIBER_STATS, ssrc=5, time_s=5000.0 + at, arrival_s=9.0 + at, packets=packets, lost=lost,
            last_packet_s=5000.0 + at,
        )  # fmt: skip
        found.append(told)
    return found


def test_a_recording_is_read_between_two_times() -> None:
    told = readings(0.02)
    lines = [clock_line(9.0, 5000.0), begin_line(9.0, FLOW, SUBJECT)]
    for each in told:
        lines += [readings_line(each.arrival_s, FLOW, [each]), tick_line(each.arrival_s)]
    found = recorded(lines, KEY, 5010.0, 5040.0)
    assert found is not None
    assert (found.flow, found.subject) == (FLOW, SUBJECT)
    assert list(found.readings) == told[10:41]
    assert recorded(lines, ("TR_2", 2, "alice"), 5010.0, 5040.0) is None
    assert recorded(lines, KEY, 5010.0, 5015.0) is None


def test_an_hour_is_made_of_what_was_recorded_and_goes_on_in_time() -> None:
    told = Recorded(FLOW, SUBJECT, readings(0.05))
    made = list(hour(told, 1, 1200.0))
    assert made == list(hour(told, 1, 1200.0)) != list(hour(told, 2, 1200.0))
    steps = [(after.time_s - before.time_s, after.lost or 0) for before, after in pairwise(made)]
    assert all(step == 1.0 for step, _ in steps)
    assert [lost for _, lost in steps] == sorted(lost for _, lost in steps)
    first, last = made[0], made[-1]
    assert first.packets is not None
    assert last.packets is not None
    share = ((last.lost or 0) - (first.lost or 0)) / (last.packets - first.packets)
    assert share == pytest.approx(0.05, abs=0.02)


def test_alerts_of_a_constant_condition_stay_put_and_those_of_a_coming_and_going_one_do_not() -> None:
    assert changes(Recorded(FLOW, SUBJECT, readings(0.2)), 1, 1200.0) <= 1
    coming = readings(0.0, 40)
    base = coming[-1]
    for each in readings(0.3, 40, seed=4):
        coming.append(
            replace(
                each,
                time_s=each.time_s + 40,
                arrival_s=each.arrival_s + 40,
                last_packet_s=each.time_s + 40,
                packets=(each.packets or 0) + (base.packets or 0),
                lost=(each.lost or 0) + (base.lost or 0),
            )
        )
    assert changes(Recorded(FLOW, SUBJECT, coming), 1, 2400.0) > 4


def test_less_concealment_holds_only_where_all_of_the_interval_is_below_zero() -> None:
    def course(policy: bool, concealed: float, full_s: float | None = 20.0, frozen: bool = False) -> Adapted:
        return Adapted(policy, concealed, full_s, [], frozen, LOAD)

    less = [course(True, 0.02 + n / 1000) for n in range(6)] + [course(False, 0.2 + n / 100) for n in range(6)]
    found = adaptation.figures(less, 1, "")
    assert of(found, "concealed audio").holds
    assert of(found, "full layer again").holds
    alike = [course(policy, 0.1 + n / 50) for n in range(6) for policy in (True, False)]
    assert not of(adaptation.figures(alike, 1, ""), "concealed audio").holds
    never = adaptation.figures([*less, course(True, 0.02, None)], 1, "")
    assert not of(never, "full layer again").holds
    frozen = of(adaptation.figures([*less, course(True, 0.02, 130.0, frozen=True)], 1, ""), "full layer again")
    assert frozen.holds
    assert "1 more that the flap guard froze" in frozen.note


def test_the_page_is_one_file_with_every_figure_and_run() -> None:
    errors = [0.1, 0.2, 0.9]
    runs = [row(judgement(f"run <{n}>", livekit_said=["good"], loss_5=errors)) for n in range(3)]
    assert runs[0]["loss_5"] == {"count": 3, "p50": 0.2, "p95": 0.9, "worst": 0.9}
    assert runs[0]["loss_60"] == {"count": 0}
    runs[0]["drawn"]["alerts"] = [("network_loss", 3.0, None), ("stalled", 4.0, 9.0)]
    choir = row(judgement("choir"))
    choir["drawn"] = {}
    document = {
        "figures": [asdict(Figure("loss", 0.1, "points", "<= 0.2", True, "a & b"))],
        "time": "2026-01-01", "seed": 1, "machine": {"busy": 0.5}, "failed": ["broke <b>"], "skipped": [],
        "courses": [asdict(Adapted(True, 0.012, None, ["down <video_off>"], False, LOAD))],
        "runs": [*runs, choir],
    }  # fmt: skip
    text = page(json.loads(json.dumps(document)))
    for words in (
        "a &amp; b",
        "run &lt;2&gt;",
        "broke &lt;b&gt;",
        "network loss",
        "LiveKit said good",
        "down &lt;video_off&gt;",
        "1.20%",
    ):
        assert words in text
    assert text.count("<svg") == 3
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    HTMLParser().feed(text)


def test_the_machine_is_read_from_what_the_kernel_tells() -> None:
    before = Ticks.now("cpu  100 0 50 800 20 0 5 25 0 0\ncpu0 1")
    after = Ticks.now("cpu  150 0 60 830 25 0 5 30 0 0\n")
    load = after.since(before)
    assert (load.steal, load.busy) == (0.05, 0.6)
    line = "  1: 0200007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 {}"
    table = "\n".join(["head", line.format(3), line.format(4), line.format(9).replace("1F90", "1F91")])
    assert udp_drops(8080, table) == 7


def test_every_profile_is_planned_at_its_hops_with_all_kinds_of_clients() -> None:
    plans = list(planned(PROFILES, 2))
    assert len(plans) == 2 * sum(len(profile.hops) for profile in PROFILES)
    for hop in Hop:
        kinds = {each.subscriber for each in plans if each.hop is hop}
        assert kinds == set(SUBSCRIBERS)
        assert {each.client_publishes for each in plans if each.hop is hop} == {True, False}
    assert {each.profile.incident for each in plans} == set(Incident)
    assert len({each.name for each in plans}) == len(plans)
