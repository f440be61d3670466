"""When events are sent again, and given up."""

from hypothesis import given
from hypothesis import strategies as st

from track_server.webhooks.schedule import FIRST_PAUSE_S, LAST_PAUSE_S, given_up, pause_s


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_to_a_bound_and_half_of_each_is_random(failures: int, jitter: float) -> None:
    least, most = pause_s(failures, 0), pause_s(failures, 1)
    assert most == 2 * least
    assert least <= pause_s(failures, jitter) <= most
    assert FIRST_PAUSE_S <= most <= LAST_PAUSE_S
    assert pause_s(failures + 1, jitter) >= pause_s(failures, jitter)


def test_pauses_double() -> None:
    assert [pause_s(failures, 1) for failures in range(1, 12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_an_event_is_given_up_once_it_was_due_for_so_long() -> None:
    assert not given_up(109, event_time=90, failing_since=100, give_up_s=10)
    assert given_up(110, event_time=90, failing_since=100, give_up_s=10)
    # One that came while others failed is due since it came.
    assert not given_up(110, event_time=105, failing_since=100, give_up_s=10)
