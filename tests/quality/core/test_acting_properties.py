"""Whatever happens in a room, what is done about it keeps its rules."""

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quality.core.simulation import down, up
from track_server.quality.core.adapting.action import Action, Move
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import MEDIUM, ActionKind, Family, Line, Policy, Timing
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.reading import Flow, Hop, Limitation, Media, Reading, Source
from track_server.quality.core.watch import Subject

SEED = st.integers(0, 2**32)

PERSONS = ("bob", "carol", "dan")


def whatever(seed: int, seconds: int, timing: Timing, policy: Policy) -> tuple[list[list[Action]], Adaptation]:
    """A room of which anything may be told; the actions of each second."""
    chance = random.Random(seed)
    assessment = Assessment(Adaptation(lambda _: policy, timing, random.Random(seed)))
    assert assessment.adaptation is not None
    flows = [up("TR_a"), up("TR_v"), *(down(track, name) for track in ("TR_a", "TR_v") for name in PERSONS)]
    for flow in flows:
        media = Media.AUDIO if flow.track_sid == "TR_a" else Media.VIDEO
        assessment.begin(flow, Subject(flow.track_sid, "alice", media))
    counters = {
        flow: Reading(source=Source.COMPANION, ssrc=1, time_s=0.0, arrival_s=0.0, packets=0, lost=0, rtt_ms=40.0)
        for flow in flows
    }
    ill: dict[Flow, tuple[float, float]] = dict.fromkeys(flows, (0.0, 40.0))
    found = []
    for second in range(seconds):
        now_s = float(second)
        for flow, before in counters.items():
            if chance.random() < 0.03:
                ill[flow] = (chance.choice([0.0, 0.0, 0.1, 0.4, 1.0]), chance.choice([40.0, 40.0, 900.0]))
            loss, rtt_ms = ill[flow]
            lost = round(100 * loss)
            counters[flow] = after = replace(
                before, time_s=1e9 + now_s, arrival_s=now_s, packets=(before.packets or 0) + 100 - lost,
                payload_bytes=1_000 * ((before.packets or 0) + 100 - lost), lost=(before.lost or 0) + lost,
                rtt_ms=rtt_ms, limitation=chance.choice([Limitation.NONE, Limitation.CPU]),
                cpu_load=chance.choice([0.2, 0.95]),
            )  # fmt: skip
            if chance.random() < 0.95:
                assessment.add(flow, [after])
        found.append(list(assessment.tick(now_s).actions))
    return found, assessment.adaptation


def begun(found: Iterable[Sequence[Action]]) -> list[Action]:
    return [action for actions in found for action in actions if action.verdict is None]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEED, st.integers(50, 200), st.integers(1, 6))
def test_actions_keep_to_their_budget_and_their_rules(seed: int, seconds: int, budget: int) -> None:
    timing = Timing(budget=budget, budget_s=30.0)
    found, _ = whatever(seed, seconds, timing, Policy())
    done = [action for action in begun(found) if not action.held]
    # Taking back costs nothing: a probe that failed, steps that were of no use, limits of what nobody measures.
    paid = [action.time_s for action in done if action.move not in (Move.BACK, Move.RELEASE)]
    for first, last in zip(paid, paid[budget:], strict=False):
        assert last - first >= timing.budget_s
    for action in done:
        if action.kind is ActionKind.RESTART:
            assert action.line.family is Family.MEDIA
            assert not {"network_loss", "severe_loss", "congestion", "delay"} & set(action.reason.split(", "))
        if action.line.family is not Family.MEDIA:
            assert action.kind is not ActionKind.RESTART


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEED, st.integers(50, 200))
def test_a_line_that_turned_three_times_is_kept_low(seed: int, seconds: int) -> None:
    timing = Timing()
    found, _ = whatever(seed, seconds, timing, Policy())
    by_line: dict[Line, list[Action]] = {}
    for action in begun(found):
        by_line.setdefault(action.line, []).append(action)
    for line, actions in by_line.items():
        if line.family is Family.MEDIA:
            continue
        turns: list[float] = []
        frozen_until_s = -math.inf
        for before, action in itertools.pairwise(actions):
            if action.move is Move.UP or (action.move is Move.RELEASE and action.reason == "no effect"):
                assert action.time_s >= frozen_until_s
            up_before = before.move in (Move.UP, Move.RELEASE)
            if (action.move is Move.BACK or (action.move is Move.DOWN and up_before)) and not action.held:
                turns = [*turns[-2:], action.time_s]
                if len(turns) == timing.reversals and action.time_s - turns[0] <= timing.reversals_within_s:
                    frozen_until_s = action.time_s + timing.freeze_s
                    turns = []


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEED, st.integers(20, 120))
def test_what_nobody_measures_any_more_is_released(seed: int, seconds: int) -> None:
    timing = Timing()
    _, adaptation = whatever(seed, seconds, timing, Policy())
    for second in range(seconds, seconds + int(timing.blind_s) + 40):
        adaptation.step({}, float(second))
    assert not adaptation.rungs()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEED, st.floats(0.1, 0.5), st.booleans())
def test_one_fault_is_acted_on_in_one_place(seed: int, loss: float, uplink_told: bool) -> None:
    """Loss on the way in shows in everybody's numbers: nothing is done on a subscriber. One subscriber's is its own."""
    for shared in (True, False):
        chance = random.Random(seed)
        assessment = Assessment(Adaptation(lambda _: Policy(), Timing(), random.Random(seed)))
        flows = [*([up("TR_v")] if uplink_told else []), *(down("TR_v", name) for name in PERSONS)]
        for flow in flows:
            assessment.begin(flow, Subject("TR_v", "alice", Media.VIDEO))
        counts = {flow: [0, 0] for flow in flows}
        found: list[Assessed] = []
        for second in range(90):
            gone = sum(chance.random() < loss for _ in range(100)) if second >= 20 else 0
            for flow, (packets, lost) in counts.items():
                ill = shared or flow.identity == "bob"
                counts[flow] = [packets + (100 if flow.hop is Hop.UPLINK else 100 - gone * ill), lost + gone * ill]
                assessment.add(
                    flow,
                    [
                        Reading(
                            source=Source.COMPANION, ssrc=1, time_s=1e9 + second, arrival_s=float(second),
                            packets=counts[flow][0], payload_bytes=1000 * counts[flow][0], lost=counts[flow][1],
                            rtt_ms=40.0,
                        )
                    ],
                )  # fmt: skip
            found.append(assessment.tick(float(second)))
        families = {(action.line.family, action.line.identity) for each in found for action in each.actions}
        assert families == ({(Family.UPLINK, "alice")} if shared else {(Family.DOWNLINK, "bob")})


def test_a_floor_and_what_is_allowed_hold_whatever_happens() -> None:
    policy = Policy(allowed=frozenset({ActionKind.LIMIT_NETWORK, ActionKind.CAP_PUBLISHER}), floor=MEDIUM)
    for seed in range(6):
        found, _ = whatever(seed, 200, Timing(), policy)
        assert all(action.kind in policy.allowed for action in begun(found))
        assert all(action.quality is not None and action.quality >= MEDIUM for action in begun(found))
