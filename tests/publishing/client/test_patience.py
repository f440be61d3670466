"""How long what a client publishes is waited for."""

from track_server.publishing.client.patience import RETRY_LAST_S, UNSEEN_S, VANISHED_GRACE_S, Patience


def test_a_participant_may_be_away_for_so_long_from_when_it_left() -> None:
    patience = Patience(60)
    assert patience.without(100) == 60
    assert patience.without(150) == 10
    assert patience.without(160) <= 0
    patience.answered()
    assert patience.without(1000) == 60


def test_a_track_that_was_seen_is_missed_sooner_than_one_that_never_was() -> None:
    patience = Patience(60)
    patience.published()
    assert patience.gone(0) == UNSEEN_S
    patience.there()
    assert patience.gone(7) == VANISHED_GRACE_S
    assert patience.gone(7 + VANISHED_GRACE_S) <= 0
    patience.ask_again()
    assert patience.gone(20) == VANISHED_GRACE_S


def test_pauses_grow_up_to_a_bound_and_begin_anew_with_another_connection() -> None:
    patience = Patience(60)
    first = patience.pause()
    assert all(patience.pause() <= RETRY_LAST_S for _ in range(10))
    patience.newcomer()
    assert patience.pause() <= 2 * first
