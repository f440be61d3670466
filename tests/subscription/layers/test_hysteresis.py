"""A budget that moves: down at once, up after a calm, and no fluttering."""

from collections.abc import Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.subscription.layers.test_allocation import wanted
from track_server.subscription.layers.allocation import NO_LAYER, Want, allocate, spent_bps
from track_server.subscription.layers.hysteresis import CALM_S, ROOM, Allocator

CAMERA: Final = (160, 450, 1700)
FOCUS: Final = Want("TR_focus", 95, CAMERA)
OTHER: Final = Want("TR_other", 50, CAMERA)

# Parts of a second that floating point has exactly.
SECONDS = st.integers(1, 768).map(lambda part: part / 64)
STEPS = st.lists(st.tuples(SECONDS, st.none() | st.integers(0, 40)), min_size=1, max_size=25)
"""Seconds since the one before, and the budget."""


def settled(wants: Sequence[Want], budget: float | None) -> Allocator:
    """One that has had that budget for a long time."""
    allocator = Allocator()
    allocator.step(0.0, wants, budget)
    allocator.step(1000.0, wants, budget)
    return allocator


def test_the_first_budget_is_taken_as_it_is() -> None:
    assert Allocator().step(5.0, [FOCUS, OTHER], 610) == {"TR_focus": 1, "TR_other": 0}


def test_less_takes_effect_at_once() -> None:
    allocator = settled([FOCUS, OTHER], 2000)
    assert allocator.step(1000.1, [FOCUS, OTHER], 620) == {"TR_focus": 1, "TR_other": 0}
    assert allocator.step(1000.2, [FOCUS, OTHER], 200) == {"TR_focus": 0, "TR_other": NO_LAYER}


def test_more_takes_effect_after_ten_seconds() -> None:
    allocator = settled([FOCUS, OTHER], 200)
    assert allocator.step(1001.0, [FOCUS, OTHER], 3000)["TR_focus"] == 0
    assert allocator.step(1010.9, [FOCUS, OTHER], 3000)["TR_focus"] == 0
    assert allocator.step(1011.0, [FOCUS, OTHER], 3000) == {"TR_focus": 2, "TR_other": 1}


def test_a_dip_begins_the_calm_anew() -> None:
    allocator = settled([FOCUS], 200)
    allocator.step(1001.0, [FOCUS], 3000)
    allocator.step(1009.0, [FOCUS], 150)
    allocator.step(1010.0, [FOCUS], 3000)
    assert allocator.step(1019.9, [FOCUS], 3000)["TR_focus"] == NO_LAYER
    assert allocator.step(1020.0, [FOCUS], 3000)["TR_focus"] == 2


def test_fifteen_percent_of_room_are_needed_for_more() -> None:
    allocator = settled([FOCUS], 200)
    allocator.step(1001.0, [FOCUS], 450 * ROOM - 1)
    assert allocator.step(1100.0, [FOCUS], 450 * ROOM - 1)["TR_focus"] == 0
    allocator.step(1101.0, [FOCUS], 450 * ROOM + 1)
    assert allocator.step(1200.0, [FOCUS], 450 * ROOM + 1)["TR_focus"] == 1


def test_what_comes_into_focus_does_not_wait() -> None:
    first, second = Want("TR_a", 95, CAMERA), Want("TR_b", 50, CAMERA)
    allocator = settled([first, second], 610)
    assert allocator.levels == {"TR_a": 1, "TR_b": 0}
    first, second = Want("TR_a", 50, CAMERA), Want("TR_b", 95, CAMERA)
    assert allocator.step(1000.1, [first, second], 610) == {"TR_a": 0, "TR_b": 1}


def test_a_video_that_comes_does_not_wait() -> None:
    allocator = settled([FOCUS], 700)
    assert allocator.step(1000.1, [FOCUS, OTHER], 700) == {"TR_focus": 1, "TR_other": 0}


def test_what_one_loses_goes_to_others_where_that_leaves_room() -> None:
    allocator = settled([FOCUS, OTHER], 1700)
    assert allocator.levels == {"TR_focus": 2, "TR_other": NO_LAYER}
    assert allocator.step(1001.0, [FOCUS, OTHER], 1600) == {"TR_focus": 1, "TR_other": 1}

    allocator = settled([FOCUS, OTHER], 1700)
    assert allocator.step(1001.0, [FOCUS, OTHER], 610) == {"TR_focus": 1, "TR_other": NO_LAYER}
    assert allocator.step(1100.0, [FOCUS, OTHER], 610) == {"TR_focus": 1, "TR_other": NO_LAYER}


def test_the_first_ten_seconds_are_no_calm() -> None:
    allocator = Allocator()
    allocator.step(0.0, [FOCUS, OTHER], 1700)
    assert allocator.step(1.0, [FOCUS, OTHER], 1600) == {"TR_focus": 1, "TR_other": NO_LAYER}
    assert allocator.due_in(1.0) == CALM_S - 1
    assert allocator.step(10.0, [FOCUS, OTHER], 1600) == {"TR_focus": 1, "TR_other": 1}


def test_a_budget_that_is_not_known_any_more_is_held_for_the_calm() -> None:
    allocator = settled([FOCUS], 200)
    assert allocator.step(1001.0, [FOCUS], None)["TR_focus"] == 0
    assert allocator.held_bps == 200
    assert allocator.step(1011.0, [FOCUS], None)["TR_focus"] == 2
    assert allocator.held_bps is None


def test_sound_is_taken_off_first() -> None:
    assert Allocator().step(0.0, [FOCUS], 500, sound_bps=100)["TR_focus"] == 0
    assert Allocator().step(0.0, [FOCUS], 500, sound_bps=600)["TR_focus"] == NO_LAYER


def test_it_says_when_it_may_give_more() -> None:
    allocator = settled([FOCUS], 200)
    assert allocator.due_in(1000.0) is None
    allocator.step(1001.0, [FOCUS], 3000)
    assert allocator.due_in(1004.0) == CALM_S - 3
    allocator.step(1011.0, [FOCUS], 3000)
    assert allocator.due_in(1011.0) is None


@given(wanted(most=6), STEPS)
def test_it_is_always_within_the_budget(wants: list[Want], steps: list[tuple[float, int | None]]) -> None:
    allocator, at = Allocator(), 0.0
    for seconds, budget in steps:
        at += seconds
        levels = allocator.step(at, wants, budget)
        assert budget is None or spent_bps(wants, levels) <= budget
        assert (allocator.held_bps or 0) <= (budget if budget is not None else float("inf"))


@given(wanted(most=6), STEPS)
def test_nothing_goes_up_without_ten_calm_seconds_and_room(
    wants: list[Want], steps: list[tuple[float, int | None]]
) -> None:
    allocator, at = Allocator(), 0.0
    given: list[tuple[float, float]] = []
    before: dict[str, int] | None = None
    for seconds, budget in steps:
        at += seconds
        given.append((at, float("inf") if budget is None else budget))
        levels = allocator.step(at, wants, budget)
        if before is not None and any(levels[sid] > before[sid] for sid in levels):
            # What held at some time of the last 10 s: what came in them, and what came last before them.
            inside = [value for came, value in given if came > at - CALM_S]
            outside = [value for came, value in given if came <= at - CALM_S]
            assert outside, "there are not ten seconds yet"
            assert spent_bps(wants, levels) * ROOM <= min([*inside, outside[-1]]) + 1e-6
        before = levels


@given(
    wanted(most=6),
    st.integers(1, 40),
    st.lists(st.tuples(SECONDS, st.floats(1, 1.149)), min_size=1, max_size=40),
)
def test_noise_makes_nothing_flutter(wants: list[Want], floor: int, noise: list[tuple[float, float]]) -> None:
    allocator, at = Allocator(), 0.0
    # It has been at the bottom of the noise once: from then on nothing moves.
    before = allocator.step(0.0, wants, floor)
    for seconds, factor in noise:
        at += seconds
        levels = allocator.step(at, wants, floor * factor)
        raised = [sid for sid in levels if levels[sid] > before[sid]]
        assert all(levels[sid] >= before[sid] for sid in levels)
        # Once, at most: into what was room from the start.
        assert not raised or spent_bps(wants, levels) * ROOM <= floor * factor + 1e-6
        before = levels


@given(wanted(most=6), st.lists(st.tuples(SECONDS, st.floats(20, 22.9)), min_size=2, max_size=40))
def test_noise_moves_each_video_a_few_times_at_most(wants: list[Want], noise: list[tuple[float, float]]) -> None:
    allocator, at, turns = Allocator(), 0.0, 0
    direction: dict[str, int] = {}
    before: dict[str, int] | None = None
    for seconds, budget in noise:
        at += seconds
        levels = allocator.step(at, wants, budget)
        for sid, level in levels.items():
            now = 0 if before is None else level - before[sid]
            if now * direction.get(sid, 0) < 0:
                turns += 1
            direction[sid] = now or direction.get(sid, 0)
        before = levels
    # Down to the lowest of the noise, and once up where that is room: then it rests.
    assert turns <= len(wants)


@given(wanted(most=6), st.integers(0, 40), st.integers(0, 40))
def test_in_the_end_it_has_all_that_there_is_room_for(wants: list[Want], first: int, then: int) -> None:
    allocator = settled(wants, first)
    allocator.step(1001.0, wants, then)
    levels = allocator.step(1101.0, wants, then)
    held = allocator.held_bps or 0
    assert held == max(min(first, then), then / ROOM)
    target = allocate(wants, held)
    assert levels == target or spent_bps(wants, target) * ROOM > then


@given(wanted(most=6), STEPS)
def test_it_wakes_when_it_has_to(wants: list[Want], steps: list[tuple[float, int | None]]) -> None:
    """Who steps only when told to has the same as who steps all the time."""
    busy, idle, at = Allocator(), Allocator(), 0.0
    for seconds, budget in steps:
        levels = busy.step(at, wants, budget)
        assert idle.step(at, wants, budget) == levels
        end = at + seconds
        while (due := idle.due_in(at)) is not None and at + due < end:
            at += due
            idle.step(at, wants, budget)
            busy.step(at, wants, budget)
        for part in range(1, 4):
            moment = at + (end - at) * part / 4
            assert busy.step(moment, wants, budget) == dict(idle.levels)
        at = end
