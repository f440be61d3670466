"""Which child process of a media worker a session goes to."""

from track_server.media.children import ChildProcess, preferred


def child(served: int, sessions: int = 0, *, ready: bool = True) -> ChildProcess:
    """One that runs nothing."""
    made = ChildProcess()
    made.served, made.ready = served, ready
    made.sessions = {f"job-{number}": f"session-{number}" for number in range(sessions)}
    return made


def test_one_that_is_nearly_through_comes_to_its_end_before_its_successor_is_used() -> None:
    old, new = child(63), child(5, sessions=3)
    assert preferred([new, old]) is old


def test_among_equals_the_fullest_so_that_spare_ones_stay_empty() -> None:
    spare, used = child(3), child(3, sessions=2)
    assert preferred([spare, used]) is used


def test_one_that_still_starts_is_the_last_choice() -> None:
    starting, ready = child(9, ready=False), child(0)
    assert preferred([starting, ready]) is ready
    assert preferred([starting]) is starting


def test_where_there_is_none_it_is_none() -> None:
    assert preferred([]) is None
