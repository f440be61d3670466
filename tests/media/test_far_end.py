"""What loudspeakers play: mixed, and kept at one distance from what the microphone hears."""

import numpy as np
import pytest

from track_server.media.far_end import STEP_SAMPLES, FarEnd, Listener


def step(value: int) -> bytes:
    """10 ms in which all samples are that."""
    return np.full(STEP_SAMPLES, value, dtype=np.int16).tobytes()


def taken(listener: Listener) -> int:
    """The value of the next step."""
    samples = np.frombuffer(listener.take(), dtype=np.int16)
    assert len(samples) == STEP_SAMPLES
    assert (samples == samples[0]).all()
    return int(samples[0])


def test_nothing_is_silence() -> None:
    with FarEnd().listening() as listener:
        assert taken(listener) == 0


@pytest.mark.parametrize(
    ("values", "mix"), [((7,), 7), ((100, -30), 70), ((30_000, 30_000), 32_767), ((-30_000, -30_000, 5), -32_768)]
)
def test_all_that_is_heard_is_in_the_mix_which_does_not_wrap(values: tuple[int, ...], mix: int) -> None:
    far_end = FarEnd()
    with far_end.listening() as listener:
        for number, value in enumerate(values):
            far_end.heard(f"TR_{number}", step(value))
        assert taken(listener) == mix
        assert taken(listener) == 0


def test_each_listener_hears_everything_from_when_it_listens_on() -> None:
    far_end = FarEnd()
    far_end.heard("TR_1", step(1))
    with far_end.listening() as first:
        far_end.heard("TR_1", step(2))
        with far_end.listening() as second:
            far_end.heard("TR_1", step(3))
            assert [taken(first), taken(first), taken(first)] == [2, 3, 0]
            assert [taken(second), taken(second)] == [3, 0]


def test_a_track_that_goes_is_heard_no_more_and_may_come_back() -> None:
    far_end = FarEnd()
    with far_end.listening() as listener:
        far_end.heard("TR_1", step(1))
        far_end.heard("TR_2", step(10))
        far_end.gone("TR_1")
        far_end.gone("TR_3")
        assert taken(listener) == 10
        far_end.heard("TR_1", step(1))
        assert taken(listener) == 1


def test_what_comes_in_bursts_is_taken_in_order() -> None:
    far_end = FarEnd()
    with far_end.listening() as listener:
        for burst in range(1, 500, 10):
            for value in range(burst, burst + 10):
                far_end.heard("TR_1", step(value))
            assert [taken(listener) for _ in range(10)] == list(range(burst, burst + 10))


def test_after_a_pause_of_the_near_end_both_are_as_far_apart_as_before() -> None:
    far_end = FarEnd()
    with far_end.listening() as listener:
        for value in range(1, 12):
            far_end.heard("TR_1", step(value))
        assert [taken(listener) for _ in range(10)] == list(range(1, 11))
        # One is left, as between all that follows. For two seconds nobody takes anything.
        for value in range(12, 212):
            far_end.heard("TR_1", step(value))
        assert taken(listener) == 210


def test_what_waits_all_the_time_is_left_out_within_seconds() -> None:
    far_end = FarEnd()
    with far_end.listening() as listener:
        for value in range(1, 21):
            far_end.heard("TR_1", step(value))
        late = 0
        for value in range(21, 621):
            far_end.heard("TR_1", step(value))
            late = value - taken(listener)
        assert late == 1


def test_two_steps_may_wait_so_that_both_ends_need_not_come_at_once() -> None:
    far_end = FarEnd()
    with far_end.listening() as listener:
        far_end.heard("TR_1", step(1))
        far_end.heard("TR_1", step(2))
        for value in range(3, 1003):
            far_end.heard("TR_1", step(value))
            assert taken(listener) == value - 2
