"""How fast clients that fight are muted again, and how often that is told."""

from track_server.moderation.pace import PER_SERVER, PER_TRACK, TOLD_S, Pace, Telling


def test_a_first_mute_is_at_once_and_one_track_gets_no_more_than_its_rate() -> None:
    pace, now, muted = Pace(), 100.0, 0
    assert pace.wait("a", now) == 0.0
    while now < 110.0:
        wait = pace.wait("a", now)
        muted += wait == 0.0
        now += wait or 0.0001
    assert 9 * PER_TRACK <= muted <= 11 * PER_TRACK + 1


def test_all_tracks_together_get_no_more_than_the_servers_rate() -> None:
    pace, now, muted = Pace(), 100.0, 0
    while now < 105.0:
        muted += sum(pace.wait(track, now) == 0.0 for track in range(100))
        now += 0.01
    assert 5 * PER_SERVER * 0.9 <= muted <= 6 * PER_SERVER + 1


def test_the_first_enforcement_is_told_at_once_and_those_that_follow_together() -> None:
    telling = Telling()
    telling.count()
    assert telling.due_in(100.0) == 0.0
    assert telling.tell(100.0) == 1
    for _ in range(3):
        telling.count()
    assert telling.due_in(100.25) == TOLD_S - 0.25
    assert telling.due_in(102.0) == 0.0
    assert telling.tell(101.0) == 3
    assert telling.untold == 0
