"""Layers by the load of a subscriber's machine: down every 5 s from 0.85 on, up below 0.7."""

from hypothesis import given
from hypothesis import strategies as st

from track_server.subscription.layers.load import STEP_S, LoadSteps


def test_a_busy_machine_goes_down_a_layer_every_five_seconds() -> None:
    steps = LoadSteps()
    seen = [steps.step(second, 0.85) for second in range(12)]
    assert seen == [1] * 5 + [2] * 7


def test_it_comes_up_below_seven_tenths() -> None:
    steps = LoadSteps()
    for second in (0, 5):
        steps.step(second, 0.99)
    assert [steps.step(second, 0.8) for second in (10, 30)] == [2, 2]
    assert [steps.step(second, 0.7) for second in (40, 50)] == [2, 2]
    assert [steps.step(second, 0.69) for second in (60, 64.9, 65, 80)] == [1, 1, 0, 0]


def test_a_load_that_jumps_moves_no_faster() -> None:
    steps = LoadSteps()
    assert [steps.step(second, 0.9 if second % 2 == 0 else 0.5) for second in range(6)] == [1, 1, 1, 1, 1, 0]


def test_a_load_that_is_not_known_limits_nothing() -> None:
    steps = LoadSteps()
    steps.step(0, 0.9)
    assert steps.step(1, None) == 0
    assert steps.step(2, 0.9) == 1


# Parts of a second that floating point has exactly.
@given(st.lists(st.tuples(st.integers(1, 500).map(lambda part: part / 64), st.none() | st.floats(0, 1)), max_size=40))
def test_it_wakes_when_it_has_to(reports: list[tuple[float, float | None]]) -> None:
    steps, at = LoadSteps(), 0.0
    for seconds, load in reports:
        before = steps.layers_down
        after = steps.step(at, load)
        assert 0 <= after <= 2
        assert load is None or abs(after - before) <= 1
        end = at + seconds
        while (due := steps.due_in(at, load)) is not None and at + due < end:
            assert 0 < due <= STEP_S
            at += due
            was = steps.layers_down
            assert steps.step(at, load) != was
        at = end
