"""A client that does not stop writing over metadata is left alone for longer and longer."""

from track_server.metadata.contest import PAUSE_FIRST_S, PAUSE_LAST_S, RESTORES, WINDOW_S, Contests


def test_a_few_times_it_is_put_right_at_once() -> None:
    contests = Contests()
    assert [contests.overwritten("a", float(n)) for n in range(RESTORES)] == [0.0] * RESTORES
    assert not contests.paused("a", 1.0)


def test_one_that_goes_on_is_left_alone_for_longer_and_longer() -> None:
    contests, now = Contests(), 0.0
    pauses: list[float] = []
    while len(pauses) < 12:
        pause = contests.overwritten("a", now)
        if pause:
            assert contests.paused("a", now + pause - 0.1)
            pauses.append(pause)
            now += pause
        now += 0.01
    assert pauses[:3] == [PAUSE_FIRST_S, 2 * PAUSE_FIRST_S, 4 * PAUSE_FIRST_S]
    assert pauses[-1] == PAUSE_LAST_S


def test_others_and_the_slow_are_not_concerned() -> None:
    contests = Contests()
    for n in range(RESTORES):
        contests.overwritten("a", n / 10)
    assert contests.overwritten("a", 1.0) > 0
    assert contests.overwritten("b", 1.0) == 0
    assert all(contests.overwritten("c", n * WINDOW_S) == 0 for n in range(20))
    contests.forget("a")
    assert contests.overwritten("a", 1.0) == 0
