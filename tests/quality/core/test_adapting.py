"""What is done about trouble: how fast, how often, in which order, and whether it helped."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from track_server.quality.core.adapting.action import Action, Move
from track_server.quality.core.adapting.adaptation import Adaptation, Budget
from track_server.quality.core.adapting.effect import effect
from track_server.quality.core.adapting.ladder import HIGH, LOW, MEDIUM, OFF, ActionKind, Family, Line, Policy, Timing
from track_server.quality.core.adapting.measure import Measure, Verdict, compared, verdict
from track_server.quality.core.adapting.routing import Finding, routed
from track_server.quality.core.adapting.view import View
from track_server.quality.core.detecting.attribution import Fault
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow, Hop

BOB = Line(Family.DOWNLINK, "bob")
TRACK = Line(Family.MEDIA, "alice", "TR_a")
CLEAN = Measure(packets=200, seconds=1, rtt_ms=40, rtt_square=1600, rtts=1)
LOSSY = Measure(lost=30, packets=200, seconds=1, troubled_s=1, rtt_ms=40, rtt_square=1600, rtts=1)
TIMING = Timing()
EVERYTHING = Policy()


def adaptation(policy: Policy | None = EVERYTHING, seed: int = 1, timing: Timing = TIMING) -> Adaptation:
    return Adaptation(lambda _: policy, timing, random.Random(seed))


def view(bad: bool, **change: Any) -> View:
    return View(reasons=frozenset({AlertKind.NETWORK_LOSS} if bad else ()), fresh=LOSSY if bad else CLEAN, **change)


def run(adapting: Adaptation, views: Sequence[View | None], line: Line = BOB, start: int = 0) -> list[Action]:
    """One view a second; None: the line is not told of."""
    found: list[Action] = []
    for second, each in enumerate(views, start):
        found += adapting.step({} if each is None else {line: each}, float(second))
    return found


def begun_all(actions: list[Action]) -> list[Action]:
    return [each for each in actions if each.verdict is None]


def begun(actions: list[Action]) -> list[tuple[int, Move, int | None]]:
    return [(int(each.time_s), each.move, each.quality) for each in actions if each.verdict is None]


def test_it_steps_down_three_seconds_apart_and_takes_video_away_last() -> None:
    found = begun(run(adaptation(), [view(True)] * 14))
    assert found == [(0, Move.DOWN, MEDIUM), (3, Move.DOWN, LOW), (11, Move.DOWN, OFF)]


def test_a_step_that_helps_is_the_last() -> None:
    found = run(adaptation(), [view(True)] * 2 + [view(False)] * 12)
    assert begun(found)[:1] == [(0, Move.DOWN, MEDIUM)]
    assert [move for _, move, _ in begun(found)].count(Move.DOWN) == 1


def test_an_alert_that_is_still_on_though_its_loss_is_over_is_no_reason_for_another_step() -> None:
    still = View(reasons=frozenset({AlertKind.NETWORK_LOSS}), fresh=CLEAN)
    found = begun(run(adaptation(), [view(True)] + [still] * 15))
    assert [move for _, move, _ in found] == [Move.DOWN, Move.UP]


@pytest.mark.parametrize(
    ("policy", "lowest"),
    [
        (Policy(floor=LOW), LOW),
        (Policy(floor=MEDIUM), MEDIUM),
        (Policy(allowed=frozenset({ActionKind.LIMIT_NETWORK})), LOW),
        (Policy(allowed=frozenset({ActionKind.RESTART})), None),
        (None, None),
    ],
)
def test_a_policys_floor_and_its_allowed_actions_hold(policy: Policy | None, lowest: int | None) -> None:
    adapting = adaptation(policy)
    run(adapting, [view(True)] * 14)
    rung = adapting.rungs().get(BOB)
    assert (None if rung is None else rung.quality) == lowest


def test_it_goes_up_after_ten_seconds_of_calm_as_a_probe_and_is_kept() -> None:
    adapting = adaptation()
    found = begun(run(adapting, [view(True)] * 2 + [view(False)] * 20))
    assert found[1] == (15, Move.UP, HIGH)
    assert not adapting.rungs()


def test_a_probe_that_brings_loss_or_delay_is_taken_back_at_once() -> None:
    slow = View(reasons=frozenset(), fresh=Measure(packets=200, seconds=1, rtt_ms=200, rtt_square=40_000, rtts=1))
    for harm in (view(True), slow):
        adapting = adaptation()
        found = begun(run(adapting, [view(True)] * 2 + [view(False)] * 14 + [harm] * 2))
        assert [move for _, move, _ in found] == [Move.DOWN, Move.UP, Move.BACK]
        assert found[2][0] - found[1][0] <= TIMING.probe_s
        assert adapting.rungs()[BOB].quality == MEDIUM


def test_failed_probes_back_off_and_freeze_the_line_low() -> None:
    """Whatever is above MEDIUM brings loss, for an hour."""
    adapting = adaptation()
    found: list[Action] = []
    frozen = 0
    for second in range(3600):
        rung = adapting.rungs().get(BOB)
        found += adapting.step({BOB: view(rung is None)}, float(second))
        frozen += bool(adapting.frozen(float(second)))
    ups = [at for at, move, _ in begun(found) if move is Move.UP]
    waits = [second - first for first, second in itertools.pairwise(ups)]
    assert waits[0] >= TIMING.backoff_s
    assert max(waits) >= TIMING.backoff_most_s
    assert all(wait >= TIMING.backoff_most_s for wait in waits[6:])
    assert len(ups) <= 36
    assert frozen >= TIMING.freeze_s - 1


def test_steps_without_effect_are_taken_back_and_not_repeated_for_a_while() -> None:
    adapting = adaptation()
    found = begun(run(adapting, [view(True)] * 200))
    release = next(at for at, move, _ in found if move is Move.RELEASE)
    assert release == 11 + TIMING.settle_s + TIMING.observe_s
    again = [at for at, move, _ in found if move is Move.DOWN and at > release]
    assert again
    assert again[0] - release >= TIMING.backoff_most_s
    assert not any(release < at < release + TIMING.backoff_most_s for at, _, _ in found)


def test_steps_without_effect_on_a_frozen_line_are_taken_back_when_it_thaws() -> None:
    adapting = adaptation(timing=replace(TIMING, reversals=1))
    found = begun(run(adapting, [view(True)] * 2 + [view(False)] * 14 + [view(True)] * 300))
    back = next(at for at, move, _ in found if move is Move.BACK)
    off = next(at for at, _, quality in found if quality == OFF)
    release = next(at for at, move, _ in found if move is Move.RELEASE)
    assert off + TIMING.settle_s + TIMING.observe_s < back + TIMING.freeze_s == release


@pytest.mark.parametrize("received", [OFF, LOW])
def test_livekits_own_adaptation_is_not_fought(received: int) -> None:
    """While LiveKit sends less than is allowed, or nothing, nothing is probed, and nothing is lowered for it."""
    adapting = adaptation()
    found = begun(run(adapting, [view(True)] * 2 + [view(False, received=received)] * 100))
    assert found == [(0, Move.DOWN, MEDIUM)]


@pytest.mark.parametrize("calm_s", [60.0, 120.0, 600.0])
def test_a_long_calm_is_waited_for_and_comes(calm_s: float) -> None:
    found = begun(run(adaptation(timing=replace(TIMING, calm_s=calm_s)), [view(True)] * 2 + [view(False)] * 700))
    assert [move for _, move, _ in found] == [Move.DOWN, Move.UP]
    assert calm_s <= found[1][0] <= calm_s + 20


def test_an_action_is_looked_at_for_as_long_as_is_asked_for() -> None:
    timing = replace(TIMING, settle_s=20, observe_s=90)
    found = run(adaptation(timing=timing), [view(False)] * 100 + [view(True)] * 95 + [view(False)] * 200)
    judged = [each for each in found if each.verdict is not None and each.verdict is not Verdict.CANNOT_TELL]
    assert {each.after.seconds for each in judged if each.after is not None} == {90.0}


def test_nothing_measured_is_no_calm_and_after_long_nothing_is_limited() -> None:
    adapting = adaptation()
    found = begun(run(adapting, [view(True)] * 2 + [None] * 200))
    assert [move for _, move, _ in found] == [Move.DOWN, Move.RELEASE]
    assert found[1][0] >= TIMING.blind_s


def test_a_restart_is_not_for_congestion_and_backs_off() -> None:
    bad = Measure(packets=0, seconds=1, troubled_s=1)
    stalled = View(reasons=frozenset({AlertKind.STALLED}), fresh=bad)
    assert not run(adaptation(), [View(reasons=frozenset({AlertKind.STALLED}), fresh=bad, congested=True)] * 60, TRACK)
    restarts = [at for at, _, _ in begun(run(adaptation(), [stalled] * 400, TRACK))]
    waits = [second - first for first, second in itertools.pairwise(restarts)]
    assert waits[0] >= TIMING.backoff_s
    assert waits == sorted(waits)
    assert waits[-1] >= TIMING.backoff_most_s
    late = View(reasons=frozenset(), fresh=bad)
    helped = run(adaptation(), [late] * 5 + [stalled] * 2 + [View(reasons=frozenset(), fresh=CLEAN)] * 30, TRACK)
    assert [each.verdict for each in helped if each.verdict] == [Verdict.IMPROVED]


def test_a_rooms_budget_bounds_its_actions() -> None:
    adapting = adaptation()
    lines = [Line(Family.DOWNLINK, f"p{number}") for number in range(100)]
    for second in range(50):
        adapting.step({line: view(True) for line in lines}, float(second))
    assert len(adapting.rungs()) <= TIMING.budget
    budget = Budget(2, 10.0)
    assert [budget.take(now) for now in (0.0, 1.0, 2.0, 10.0, 10.5, 11.0)] == [True, True, False, True, False, True]


def test_what_is_held_back_is_measured_alike_and_helped_after() -> None:
    adapting = adaptation(Policy(hold_back=1.0))
    found = run(adapting, [view(True)] * 20)
    held = next(each for each in found if each.held and each.verdict)
    assert held.verdict is Verdict.NONE
    first = next(each for each in found if not each.held)
    assert first.time_s == TIMING.settle_s + TIMING.observe_s


def test_only_the_first_step_of_a_trouble_is_held_back_and_what_others_did_is_not_put_down_to_it() -> None:
    firsts = set()
    for seed in range(20):
        found = begun_all(run(adaptation(Policy(hold_back=0.5), seed), [view(True)] * 12))
        firsts.add(found[0].held)
        assert len(found) > 1 or found[0].held
        assert not any(each.held for each in found[1:])
    assert firsts == {True, False}


def test_the_effect_of_actions_against_those_held_back() -> None:
    base = run(adaptation(), [view(True)])[0]

    def told(held: bool, judged: Verdict, times: int) -> list[Action]:
        return [replace(base, held=held, verdict=judged)] * times

    actions = told(False, Verdict.IMPROVED, 40) + told(False, Verdict.NONE, 10) + told(True, Verdict.IMPROVED, 5)
    found = effect(actions + told(True, Verdict.NONE, 45) + told(True, Verdict.CANNOT_TELL, 9))
    assert (found.acted, found.held) == (50, 50)
    assert found.gain == pytest.approx(0.7)
    assert found.gain_least is not None
    assert 0.5 < found.gain_least < 0.7 < (found.gain_most or 0) < 0.85
    assert effect([]).gain is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((10, 100), (10, 100), Verdict.NONE),
        ((20, 100), (0, 100), Verdict.IMPROVED),
        ((0, 100), (20, 100), Verdict.WORSE),
        ((10, 100), (0, 20), Verdict.CANNOT_TELL),
        ((3, 100), (2, 100), Verdict.NONE),
        ((60, 1000), (55, 1000), Verdict.NONE),
    ],
)
def test_a_verdict_needs_packets_and_a_difference_beyond_chance(
    before: tuple[int, int], after: tuple[int, int], expected: Verdict
) -> None:
    assert compared(*before, *after) is expected


def test_mixed_signs_cannot_tell() -> None:
    fewer = Measure(packets=500, seconds=5, rtt_ms=2000, rtt_square=800_000, rtts=5)
    before = Measure(lost=50, packets=500, seconds=5, rtt_ms=200, rtt_square=8_000, rtts=5)
    assert verdict(Family.DOWNLINK, before, fewer) is Verdict.CANNOT_TELL


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(100, 600))
def test_whatever_happens_the_timings_hold(seed: int, seconds: int) -> None:
    chance = random.Random(seed)
    adapting = adaptation(Policy(hold_back=0.2), seed)
    found: list[Action] = []
    bad = False
    for second in range(seconds):
        if chance.random() < 0.08:
            bad = not bad
        told = {} if chance.random() < 0.05 else {BOB: view(bad, received=chance.choice([None, LOW, HIGH]))}
        found += adapting.step(told, float(second))
    begun_actions = [each for each in found if each.verdict is None]
    done = [each for each in begun_actions if not each.held]
    for first, last in itertools.pairwise(done):
        if last.move is Move.DOWN and first.move is Move.DOWN:
            assert last.time_s - first.time_s >= TIMING.step_s
        if last.move is Move.UP:
            assert last.time_s - first.time_s >= TIMING.calm_s
        if last.move is Move.BACK:
            assert first.move in (Move.UP, Move.RELEASE)
    judged = [each.number for each in found if each.verdict is not None]
    assert len(judged) == len(set(judged))
    running = {each.number for each in begun_actions} - set(judged)
    assert len(running) <= 2


def test_bad_sound_for_which_nobody_is_known_to_be_at_fault_is_acted_on_nowhere() -> None:
    def lines(fault: Fault) -> set[Line]:
        finding = Finding(Flow("TR_a", Hop.DOWNLINK, "bob"), "alice", {AlertKind.BAD_AUDIO: fault}, CLEAN)
        return {line for line, view in routed([finding]).items() if view.reasons}

    assert lines(Fault.UNKNOWN) == lines(Fault.SERVER) == set()
    assert lines(Fault.SUBSCRIBER_DOWNLINK) == {BOB}
    assert lines(Fault.PUBLISHER_UPLINK) == {Line(Family.UPLINK, "alice")}
