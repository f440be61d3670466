"""A client that goes on is corrected less and less often."""

from track_server.subscription.controller.pace import CALM_S, LONGEST_S, Corrections


def waits(corrections: Corrections, times: int) -> list[float]:
    """What lies between corrections that are each made as soon as they may be."""
    now, found = 1000.0, []
    for _ in range(times):
        due = corrections.due_at(now)
        found.append(due - now)
        now = due
        corrections.made(now)
    return found


def test_the_first_is_at_once_and_the_next_ones_later_and_later_up_to_one_a_minute() -> None:
    corrections = Corrections()
    assert waits(corrections, 10) == [0, 1, 2, 4, 8, 16, 32, LONGEST_S, LONGEST_S, LONGEST_S]
    assert corrections.times == 10


def test_a_client_that_kept_to_it_for_long_begins_anew() -> None:
    corrections = Corrections()
    corrections.made(1000.0)
    corrections.made(1001.0)
    assert corrections.due_at(1002.0) == 1003.0
    later = 1001.0 + CALM_S
    assert corrections.due_at(later) == later
    assert corrections.made(later) == 3
    assert corrections.due_at(later) == later + 1
