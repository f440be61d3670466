"""What fits into a budget: the best of all allocations, by an order that is written down here once more."""

from collections.abc import Mapping, Sequence
from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st

from track_server.subscription.layers.allocation import NO_LAYER, Want, allocate, spent_bps

COSTS = st.integers(0, 6)


@st.composite
def wanted(draw: st.DrawFn, most: int = 4) -> list[Want]:
    """A few videos of few priorities, whose layers cost little: budgets are short of them in all ways there are."""
    count = draw(st.integers(0, most))
    return [
        Want(f"TR_{number}", draw(st.integers(1, 3)), tuple(draw(st.lists(COSTS, max_size=3))))
        for number in range(count)
    ]


def cost(want: Want, level: int) -> int:
    """Of all layers up to that level: a higher one costs no less than one below it."""
    return max(want.costs[: level + 1], default=0)


def total(wants: Sequence[Want], levels: Mapping[str, int]) -> int:
    return sum(cost(want, levels[want.sid]) for want in wants)


def rank(wants: Sequence[Want], levels: Mapping[str, int]) -> list[bool]:
    """What is served, the most important first: the better allocation is the one whose list is the greater."""
    served = []
    for priority in sorted({want.priority for want in wants}, reverse=True):
        equals = [want for want in wants if want.priority == priority]
        for level in range(3):
            there = [want for want in equals if level < len(want.costs)]
            there.sort(key=lambda want: (cost(want, level) - cost(want, level - 1), want.sid))
            served += [levels[want.sid] >= level for want in there]
    return served


def exhaustive(wants: Sequence[Want], budget: float) -> dict[str, int]:
    """The best of all allocations that the budget carries."""
    every = product(*(range(NO_LAYER, len(want.costs)) for want in wants))
    carried = [
        levels
        for choice in every
        if total(wants, levels := dict(zip((want.sid for want in wants), choice, strict=True))) <= max(budget, 0)
    ]
    return max(carried, key=lambda levels: rank(wants, levels))


@given(wanted(), st.integers(-3, 40))
def test_it_is_the_best_of_all_allocations(wants: list[Want], budget: int) -> None:
    assert allocate(wants, budget) == exhaustive(wants, budget)


@given(wanted(most=12), st.integers(-3, 100))
def test_it_stays_within_the_budget(wants: list[Want], budget: int) -> None:
    levels = allocate(wants, budget)
    assert total(wants, levels) <= max(0, budget)
    assert spent_bps(wants, levels) == total(wants, levels)


@given(wanted(most=8), st.integers(0, 60), st.randoms())
def test_the_order_in_which_videos_are_named_changes_nothing(wants: list[Want], budget: int, random: object) -> None:
    shuffled = list(wants)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert allocate(shuffled, budget) == allocate(wants, budget)


@given(wanted(most=8))
def test_without_a_budget_all_have_what_they_want(wants: list[Want]) -> None:
    assert allocate(wants, None) == {want.sid: len(want.costs) - 1 for want in wants}
    assert allocate(wants, sum(max(want.costs, default=0) for want in wants)) == allocate(wants, None)


@given(wanted(most=8), st.integers(0, 60))
def test_what_is_less_important_takes_nothing_away(wants: list[Want], budget: int) -> None:
    lowest = min((want.priority for want in wants), default=0)
    important = [want for want in wants if want.priority > lowest]
    levels = allocate(wants, budget)
    assert {want.sid: levels[want.sid] for want in important} == allocate(important, budget)


@given(wanted(most=8), st.integers(0, 60), st.integers(0, 20))
def test_more_budget_serves_more_of_what_is_first(wants: list[Want], budget: int, more: int) -> None:
    assert rank(wants, allocate(wants, budget + more)) >= rank(wants, allocate(wants, budget))


@given(wanted(most=8), st.integers(0, 60), st.integers(0, 7), st.integers(1, 3))
def test_a_higher_priority_never_gives_less(wants: list[Want], budget: int, which: int, by: int) -> None:
    assume(which < len(wants))
    raised = list(wants)
    want = wants[which]
    raised[which] = Want(want.sid, want.priority + by, want.costs)
    assert allocate(raised, budget)[want.sid] >= allocate(wants, budget)[want.sid]


@given(wanted(most=8), st.integers(0, 60))
def test_nobody_has_a_second_layer_while_an_equal_could_have_its_first(wants: list[Want], budget: int) -> None:
    levels = allocate(wants, budget)
    for want in wants:
        if levels[want.sid] > 0:
            freed = cost(want, levels[want.sid]) - cost(want, 0)
            left = budget - total(wants, levels) + freed
            for other in wants:
                if other.priority == want.priority and other.costs and levels[other.sid] == NO_LAYER:
                    assert other.costs[0] > left


def test_two_cameras_get_their_lowest_layers_before_one_gets_its_second() -> None:
    wants = [Want("TR_a", 50, (100, 400)), Want("TR_b", 50, (100, 400))]
    assert allocate(wants, 450) == {"TR_a": 0, "TR_b": 0}
    assert allocate(wants, 500) == {"TR_a": 1, "TR_b": 0}


def test_the_focus_is_whole_before_the_others_get_anything() -> None:
    wants = [Want("TR_others", 50, (100, 400)), Want("TR_focus", 95, (100, 400))]
    assert allocate(wants, 450) == {"TR_focus": 1, "TR_others": NO_LAYER}


def test_what_is_left_goes_to_less_important_ones_where_it_suffices() -> None:
    wants = [Want("TR_a", 95, (100, 400)), Want("TR_b", 50, (100, 400))]
    assert allocate(wants, 390) == {"TR_a": 0, "TR_b": 0}
