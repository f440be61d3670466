"""Alerts: evidence in packets, how fast they come and go, that they do not flutter, and whose fault it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quality.core.readings import received
from tests.quality.core.simulation import Link, Sound, down, up
from track_server.quality.core.assessment import Assessment
from track_server.quality.core.detecting.attribution import Attribution, Fault, Sufferer
from track_server.quality.core.detecting.detection import Detection, Facts
from track_server.quality.core.detecting.table import DETECTORS, AlertKind, Sequential
from track_server.quality.core.measuring.losses import Packets
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Source
from track_server.quality.core.scoring.level import Grading, Level, Scored
from track_server.quality.core.watch import Subject, Watch

LOSS, SEVERE, STALLED, DELAY = AlertKind.NETWORK_LOSS, AlertKind.SEVERE_LOSS, AlertKind.STALLED, AlertKind.DELAY
HEARD = AlertKind.BAD_AUDIO
BOB, CAROL, DAN = (down(identity=name) for name in ("bob", "carol", "dan"))
OTHER = Flow("TR_b", Hop.DOWNLINK, "bob")
UP = up()


@dataclass
class Heard:
    """``changed``: the seconds at which each alert did. ``levels``: one after another."""

    changed: dict[AlertKind, list[int]] = field(default_factory=dict)
    levels: list[Level | None] = field(default_factory=list)


def listen(link: Link, seconds: int, change: Callable[[int], None] = lambda _: None, flow: Flow = BOB) -> Heard:
    """Watches sound for so long."""
    source = Source.SUBSCRIBER_STATS if flow.hop is Hop.DOWNLINK else Source.PUBLISHER_STATS
    sound, watch = Sound(flow, link, source), Watch(flow, Subject("TR_a", "alice", Media.AUDIO))
    heard = Heard()
    for second in range(seconds):
        change(second)
        watch.add([sound.second(float(second))])
        seen = watch.tick(float(second))
        for each in seen.changes:
            heard.changed.setdefault(each.kind, []).append(second)
        if not heard.levels or heard.levels[-1] is not seen.level:
            heard.levels.append(seen.level)
    return heard


@pytest.mark.parametrize(("burst", "loss"), [(2, 0.03), (3, 0.07), (5, 0.03)])
def test_nor_does_constant_loss_in_bursts(burst: float, loss: float) -> None:
    heard = listen(Link(seed=11, loss=loss, burst=burst), 3600)
    assert all(len(changes) <= 3 for changes in heard.changed.values()), heard
    assert len(heard.levels) <= 12


def test_loss_in_bursts_that_begins_on_a_sound_line_is_found_as_soon_as_it_can_be_told() -> None:
    found = []
    for seed in range(40):
        link = Link(seed=seed, burst=3)

        def change(second: int, link: Link = link) -> None:
            link.loss = 0.1 if second >= 20 else 0.0

        found.append(listen(link, 60, change).changed[LOSS][0] - 19)
    assert sorted(found)[20] <= 6
    assert sorted(found)[37] <= 13


@pytest.mark.parametrize(
    ("flow", "loss", "most"),
    [
        *((down(), loss, most) for loss, most in ((0.01, 0), (0.02, 4), (0.03, 1), (0.05, 4), (0.1, 4), (0.2, 1))),
        *((up(), loss, most) for loss, most in ((0.02, 4), (0.1, 4))),
    ],
)
def test_constant_loss_changes_an_alert_once_an_hour_at_most_and_four_times_on_a_threshold(
    flow: Flow, loss: float, most: int
) -> None:
    found = listen(Link(seed=11, loss=loss), 3600, flow=flow)
    assert all(len(changes) <= most for changes in found.changed.values()), found
    assert len(found.levels) <= 4


def test_a_clean_line_never_alerts() -> None:
    found = listen(Link(seed=5), 2 * 3600)
    assert not found.changed
    assert found.levels == [None, Level.EXCELLENT]


def test_a_loss_of_ten_percent_is_found_within_seconds_and_so_is_its_end() -> None:
    found, cleared = [], []
    for seed in range(60):
        link = Link(seed=seed)

        def change(second: int, link: Link = link) -> None:
            link.loss = 0.1 if 20 <= second < 60 else 0.0

        changes = listen(link, 100, change).changed[LOSS]
        found.append(changes[0] - 19)
        cleared.append(changes[1] - 59)
    assert sorted(found)[30] <= 5
    assert sorted(found)[57] <= 8
    assert sorted(cleared)[57] <= 18


@pytest.mark.parametrize("flow", [down(), up()], ids=["downlink", "uplink"])
def test_a_blackout_is_found_within_six_seconds_and_its_end_within_fifteen(flow: Flow) -> None:
    link = Link(seed=1)

    def change(second: int) -> None:
        link.down = 20 <= second < 40

    found = listen(link, 80, change, flow)
    on, off = found.changed[STALLED]
    assert on - 19 <= 6
    assert off - 39 <= 15
    assert Level.LOST in found.levels


def test_one_burst_alone_is_no_alert() -> None:
    link = Link(seed=1)

    def change(second: int) -> None:
        link.loss = 0.9 if second == 20 else 0.0

    assert not listen(link, 60, change).changed


def test_delay_is_an_alert_though_nothing_is_lost() -> None:
    link = Link(seed=1)

    def change(second: int) -> None:
        link.rtt_ms = 700 if 20 <= second < 60 else 40

    found = listen(link, 100, change)
    assert len(found.changed[DELAY]) == 2
    assert len(found.changed[AlertKind.CONGESTION]) == 2
    assert Level.GOOD in found.levels or Level.POOR in found.levels


def test_a_muted_or_unwanted_track_has_no_alerts_and_those_it_had_end() -> None:
    watch = Watch(down(), Subject("TR_a", "alice", Media.AUDIO))
    sound = Sound(down(), Link(seed=1, loss=0.3), Source.SUBSCRIBER_STATS)
    for second in range(20):
        watch.add([sound.second(float(second))])
        watch.tick(float(second))
    assert LOSS in watch.alerts
    watch.expect(Expected(muted=True))
    assert not watch.alerts
    assert {(each.kind, each.on) for each in watch.tick(20.0).changes} >= {(LOSS, False)}


def test_an_alert_shows_the_packets_that_it_rests_on() -> None:
    detection = Detection(Hop.DOWNLINK, Media.AUDIO)
    change = None
    for second in range(10):
        for each in detection.add(Facts(loss=Packets(10, 50)), float(second)):
            change = change or each
    assert change is not None
    assert change.on
    assert change.evidence.part >= 8
    assert change.evidence.value == pytest.approx(20.0)
    assert change.evidence.whole == change.evidence.part * 5


@pytest.mark.parametrize("last_s", [None, 100.0], ids=["first", "after a gap"])
def test_evidence_of_a_line_that_is_lossy_from_the_start_is_no_older_than_the_line(last_s: float | None) -> None:
    detection = Detection(Hop.DOWNLINK, Media.AUDIO)
    if last_s is not None:
        detection.add(Facts(loss=Packets(0, 50)), last_s)
    begin_s = 1000.0
    for second in range(10):
        detection.add(Facts(loss=Packets(15, 50)), begin_s + second)
    assert {kind: evidence.since_s for kind, evidence in detection.active.items()} == {LOSS: begin_s, SEVERE: begin_s}


@pytest.mark.parametrize("entry", [entry for entry in DETECTORS if isinstance(entry, Sequential)], ids=lambda e: e.kind)
def test_a_sequential_entry_goes_on_higher_than_it_goes_off(entry: Sequential) -> None:
    def turn(shares: tuple[float, float]) -> float:
        low, high = shares
        gain, miss = log(high / low), log((1 - high) / (1 - low))
        return -miss / (gain - miss)

    assert turn(entry.on) > turn(entry.off) > 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 300), st.floats(0, 300), st.floats(0, 20), st.floats(1, 8)), max_size=60))
def test_whatever_is_told_alerts_alternate_and_shares_are_shares(told: list[tuple[float, float, float, float]]) -> None:
    detection = Detection(Hop.DOWNLINK, Media.VIDEO)
    on: dict[AlertKind, bool] = {}
    now_s = 0.0
    for lost, expected, passed_s, clumping in told:
        now_s += passed_s
        facts = Facts(loss=Packets(min(lost, expected), expected), clumping=clumping, rtt_ms=abs(lost) * 4)
        for change in detection.add(facts, now_s):
            assert on.get(change.kind, False) is not change.on
            on[change.kind] = change.on
            assert change.evidence.part >= 0
    assert {kind for kind, now in on.items() if now} == set(detection.active)


def fault(kind: AlertKind, flow: Flow, *sufferers: tuple[Flow, str, set[AlertKind]]) -> Fault:
    all_of = {each: Sufferer(each, publisher, frozenset(alerts), True) for each, publisher, alerts in sufferers}
    return Attribution(all_of).fault(flow, kind)


@pytest.mark.parametrize(
    ("kind", "flow", "sufferers", "expected"),
    [
        (LOSS, UP, [(UP, "alice", {LOSS})], Fault.PUBLISHER_UPLINK),
        (LOSS, BOB, [(UP, "alice", {LOSS}), (BOB, "alice", {LOSS})], Fault.PUBLISHER_UPLINK),
        (LOSS, BOB, [(UP, "alice", set()), (BOB, "alice", {LOSS})], Fault.SUBSCRIBER_DOWNLINK),
        (LOSS, BOB, [(BOB, "alice", {LOSS}), (CAROL, "alice", set())], Fault.SUBSCRIBER_DOWNLINK),
        (LOSS, BOB, [(BOB, "alice", {LOSS}), (CAROL, "alice", {SEVERE})], Fault.PUBLISHER_UPLINK),
        (STALLED, BOB, [(each, "alice", {STALLED}) for each in (BOB, CAROL, DAN)], Fault.PUBLISHER_UPLINK),
        (LOSS, BOB, [(BOB, "alice", {LOSS})], Fault.UNKNOWN),
        (LOSS, BOB, [(BOB, "alice", {LOSS}), (OTHER, "eve", {LOSS})], Fault.SUBSCRIBER_DOWNLINK),
        (LOSS, BOB, [(BOB, "alice", {LOSS}), (OTHER, "eve", set())], Fault.PUBLISHER_UPLINK),
        (LOSS, BOB, [(UP, "alice", set()), (BOB, "alice", {LOSS}), (CAROL, "alice", {LOSS})], Fault.SERVER),
        (
            LOSS,
            BOB,
            [(UP, "alice", set()), (BOB, "alice", {LOSS}), (CAROL, "alice", {HEARD})],
            Fault.SUBSCRIBER_DOWNLINK,
        ),
        (
            HEARD,
            BOB,
            [(UP, "alice", set()), (BOB, "alice", {LOSS, HEARD}), (CAROL, "alice", {HEARD})],
            Fault.SUBSCRIBER_DOWNLINK,
        ),
        (HEARD, BOB, [(UP, "alice", set()), (BOB, "alice", {HEARD}), (CAROL, "alice", {HEARD})], Fault.UNKNOWN),
        (HEARD, BOB, [(UP, "alice", {LOSS}), (BOB, "alice", {HEARD})], Fault.PUBLISHER_UPLINK),
        (AlertKind.CPU, UP, [(UP, "alice", {AlertKind.CPU})], Fault.DEVICE),
        (AlertKind.STUCK_DECODER, BOB, [(BOB, "alice", {AlertKind.STUCK_DECODER})], Fault.DEVICE),
    ],
)
def test_whose_fault_it_is(
    kind: AlertKind, flow: Flow, sufferers: list[tuple[Flow, str, set[AlertKind]]], expected: Fault
) -> None:
    assert fault(kind, flow, *sufferers) is expected


def test_a_stalled_uplink_that_is_still_a_suspicion_points_at_the_publisher() -> None:
    detection = Detection(Hop.UPLINK, Media.AUDIO)
    detection.add(Facts(stalled_s=1.2), 0.0)
    assert STALLED not in detection.leaning()
    detection.add(Facts(stalled_s=2.2), 1.0)
    assert STALLED in detection.leaning()


def test_a_muted_uplinks_alert_ends_though_others_go_on() -> None:
    """Nothing is measured of it any more, and its fault is still asked for."""
    assessment = Assessment()
    flows = {up("TR_a", "alice"): "alice", up("TR_b", "bob"): "bob"}
    sounds = {}
    for number, (flow, publisher) in enumerate(flows.items()):
        assessment.begin(flow, Subject(flow.track_sid, publisher, Media.AUDIO))
        sounds[flow] = Sound(flow, Link(seed=number, loss=0.3 if publisher == "alice" else 0), Source.PUBLISHER_STATS)
    first = next(iter(flows))
    for second in range(20):
        for flow, sound in sounds.items():
            assessment.add(flow, [sound.second(float(second))])
        assessment.tick(float(second))
    assert assessment.faults == dict.fromkeys([(first, LOSS), (first, SEVERE)], Fault.PUBLISHER_UPLINK)
    evidence = assessment.begin(first, Subject("TR_a", "alice", Media.AUDIO)).evidence(LOSS)
    assert evidence is not None
    assert evidence.value > 5
    assessment.expect(first, Expected(muted=True))
    ended = [alert for alert in assessment.tick(20.0).alerts if not alert.change.on]
    assert {(alert.change.kind, alert.fault) for alert in ended} == {
        (LOSS, Fault.PUBLISHER_UPLINK),
        (SEVERE, Fault.PUBLISHER_UPLINK),
    }
    assert not assessment.faults


def test_a_receivers_machine_that_is_full_is_found_and_a_senders_load_is_not_asked() -> None:
    full = Watch(down("TR_v"), Subject("TR_v", "alice", Media.VIDEO))
    found: dict[tuple[AlertKind, bool], int] = {}
    for second in range(60):
        load = 0.95 if 10 <= second < 30 else 0.5
        full.add([received(float(second), cpu_load=load)])
        found |= {(each.kind, each.on): second for each in full.tick(float(second)).changes}
    assert found == {(AlertKind.CPU, True): 15, (AlertKind.CPU, False): 40}
    detection = Detection(Hop.UPLINK, Media.VIDEO)
    assert not [change for second in range(30) for change in detection.add(Facts(cpu_load=1.0), float(second))]


def test_one_subscribers_stall_is_the_publishers_where_its_numbers_ceased_as_well() -> None:
    bob = Sufferer(BOB, "alice", frozenset({STALLED}), measured=True)
    hung = Sufferer(UP, "alice", frozenset(), measured=False, ceased=True)
    gone = Sufferer(UP, "alice", frozenset(), measured=False)
    assert Attribution({BOB: bob, UP: hung}).fault(BOB, STALLED) is Fault.PUBLISHER_UPLINK
    assert Attribution({BOB: bob, UP: gone}).fault(BOB, STALLED) is Fault.UNKNOWN


def test_a_level_needs_numbers_and_is_lost_at_once() -> None:
    grading = Grading()
    assert grading.add(None, 0.0) is None
    assert grading.add(Scored(4.3, 4.2, 4.4), 1.0) is Level.EXCELLENT
    assert grading.add(None, 2.0, lost=True) is Level.LOST
    assert grading.level(30.0) is None
    assert grading.add(Scored(2.0, 1.5, 2.5), 31.0) is Level.POOR


def test_a_level_is_not_left_while_it_may_still_be_true() -> None:
    grading = Grading()
    grading.add(Scored(4.3, 4.2, 4.4), 0.0)
    for second, score in product(range(1, 60), (3.9, 4.1)):
        assert grading.add(Scored(score, score - 0.2, score + 0.2), second + score / 10) is Level.EXCELLENT
    levels = [grading.add(Scored(3.4, 3.2, 3.6), 70.0 + second) for second in range(5)]
    assert levels[-1] is Level.GOOD
