"""What is done about one subscription, by what is wanted, asked and seen."""

import pytest

from track_server.subscription.controller.progress import (
    BLIND_S,
    SETTLED_S,
    TAKES_S,
    Progress,
    Step,
    View,
)

NOTHING, ASK, CORRECT = Step.NOTHING, Step.ASK, Step.CORRECT
START = 100.0


def view(seen: bool | None, looked_at: float = START, *, connected: float | None = 0.0, present: float = 0.0) -> View:
    return View(seen, looked_at, connected, present)


def wanting(wanted: bool, *, asked: float | None = None) -> Progress:
    """What was wanted from the start, and asked for then."""
    progress = Progress()
    progress.want(wanted, START)
    if asked is not None:
        progress.took(wanted, asked)
    return progress


def reached(wanted: bool, *, had: bool = True) -> Progress:
    """What was seen to be as wanted, one second after it was asked for."""
    progress = wanting(wanted, asked=START)
    progress.had = had
    assert progress.step(view(wanted, START + 1), True, START + 1) == (NOTHING, None)
    assert progress.reached
    return progress


def test_nothing_is_done_where_nothing_is_wanted() -> None:
    assert Progress().step(view(True), True, START) == (NOTHING, None)


@pytest.mark.parametrize(
    ("wanted", "seen", "step"),
    [(True, False, ASK), (True, None, ASK), (False, True, ASK), (False, None, ASK), (True, True, NOTHING)],
)
def test_it_is_asked_for_unless_it_is_so(wanted: bool, seen: bool | None, step: Step) -> None:
    progress = wanting(wanted)
    assert progress.step(view(seen), True, START) == (step, None)
    assert progress.reached is (step is NOTHING)


def test_what_is_being_asked_for_is_not_asked_for_again() -> None:
    progress = wanting(True)
    progress.asking = True
    assert progress.step(view(False), True, START) == (NOTHING, None)
    progress.want(False, START)
    assert progress.step(view(True), True, START) == (ASK, None)


def test_who_is_not_connected_yet_is_unsubscribed_once_it_is() -> None:
    progress = wanting(False)
    assert progress.step(view(False, connected=None, present=START), True, START + 60) == (NOTHING, None)
    assert progress.step(view(False, connected=START + 60, present=START), True, START + 60) == (ASK, None)


def test_who_has_been_there_for_long_without_the_track_is_not_unsubscribed_from_it() -> None:
    progress = wanting(False)
    assert progress.step(view(False, START, present=START), True, START + SETTLED_S - 1) == (ASK, None)
    assert progress.step(view(False, START, present=START), True, START + SETTLED_S) == (NOTHING, None)
    assert progress.reached


def test_a_look_before_the_answer_tells_nothing() -> None:
    progress = wanting(False, asked=START + 1)
    assert progress.step(view(True, START + 0.9), True, START + 1) == (NOTHING, START + 1 + TAKES_S)
    assert progress.step(view(False, START + 1.1), True, START + 1.2) == (NOTHING, None)
    assert progress.reached


def test_what_is_not_seen_in_time_is_asked_for_again_ever_more_seldom() -> None:
    progress = wanting(True, asked=START)
    now, waits = START, []
    for _ in range(7):
        step, due = progress.step(view(False, now + 0.1), True, now + 0.1)
        assert step is NOTHING
        assert due is not None
        assert progress.step(view(False, due), True, due) == (ASK, None)
        waits.append(due - now)
        progress.took(True, due)
        now = due
    assert waits == [4, 8, 16, 32, 60, 60, 60]


def test_a_client_that_did_otherwise_is_corrected_and_then_not_so_soon() -> None:
    progress = reached(False)
    now = START + 2
    assert progress.step(view(True, now), True, now) == (CORRECT, None)
    progress.took(False, now)
    progress.corrections.made(now)
    assert progress.step(view(False, now + 0.1), True, now + 0.1) == (NOTHING, None)
    assert progress.step(view(True, now + 0.2), True, now + 0.2) == (NOTHING, now + 1)
    assert progress.step(view(True, now + 1), True, now + 1) == (CORRECT, None)


def test_a_client_that_unsubscribes_is_corrected_too() -> None:
    assert reached(True).step(view(False, START + 2), True, START + 2) == (CORRECT, None)


def test_a_client_that_may_choose_is_left_alone_and_remembered() -> None:
    progress = reached(False)
    assert progress.step(view(True, START + 2), False, START + 2) == (NOTHING, None)
    assert progress.client is True
    assert progress.step(view(False, START + 3), False, START + 3) == (NOTHING, None)
    assert progress.client is None


def test_a_subscription_that_livekit_was_about_to_make_is_not_held_against_the_client() -> None:
    progress = wanting(False, asked=START)
    assert progress.step(view(False, START + 0.1), True, START + 0.1) == (NOTHING, None)
    assert progress.step(view(True, START + 0.2), True, START + 0.2) == (ASK, None)
    # Later it is the client's doing.
    progress.took(False, START + 0.3)
    assert progress.step(view(False, START + 0.4), True, START + 0.4) == (NOTHING, None)
    assert progress.step(view(True, START + 0.5), True, START + 0.5) == (CORRECT, None)


@pytest.mark.parametrize(("had", "present", "step"), [(True, START, CORRECT), (False, START - 60, CORRECT)])
def test_a_client_that_undoes_it_before_any_look_is_corrected_the_first_time_too(
    had: bool, present: float, step: Step
) -> None:
    progress = wanting(False)
    assert progress.step(view(had or None, present=present), True, START) == (ASK, None)
    progress.took(False, START)
    assert progress.step(view(True, START + 1, present=present), True, START + 1) == (NOTHING, START + TAKES_S)
    due = START + TAKES_S
    assert progress.step(view(True, due, present=present), True, due) == (step, None)


def test_what_livekit_gives_a_joiner_after_it_took_the_word_is_not_held_against_it() -> None:
    progress = wanting(False)
    assert progress.step(view(None, connected=START, present=START), True, START) == (ASK, None)
    progress.took(False, START)
    due = START + TAKES_S
    assert progress.step(view(True, due, connected=START, present=START), True, due) == (ASK, None)


def test_an_unsubscription_that_never_comes_about_is_undone_by_the_client_each_time() -> None:
    progress = wanting(False, asked=START)
    assert progress.step(view(True, START + 4, present=START), True, START + 4) == (ASK, None)
    progress.took(False, START + 4)
    assert progress.step(view(True, START + 12, present=START), True, START + 12) == (CORRECT, None)


def test_where_nobody_sees_it_an_unsubscription_is_asked_for_in_rounds_and_a_subscription_once() -> None:
    progress = wanting(False, asked=START)
    now = START
    for pause in BLIND_S:
        assert progress.step(view(None), True, now) == (NOTHING, now + pause)
        assert progress.reached
        now += pause
        assert progress.step(view(None), True, now) == (ASK, None)
        progress.took(False, now)
    assert progress.step(view(None), True, now + 1000) == (NOTHING, None)
    once = wanting(True, asked=START)
    assert once.step(view(None), True, START + 1000) == (NOTHING, None)
    assert once.reached


def test_what_was_seen_before_the_opposite_was_asked_for_tells_nothing() -> None:
    progress = wanting(False, asked=START + 1)
    progress.want(True, START + 2)
    # The last look still shows it as it was before.
    assert progress.step(view(True, START + 0.9), True, START + 2) == (ASK, None)
    progress.asking = False
    assert progress.step(view(True, START + 2), True, START + 2) == (ASK, None)
    progress.asking = None
    assert progress.step(view(True, START + 2), True, START + 2) == (NOTHING, None)


@pytest.mark.parametrize(
    ("wanted", "seen_after_s", "step"), [(True, 0.1, ASK), (True, 0.6, NOTHING), (False, 0.1, ASK)]
)
def test_a_look_in_the_moment_after_the_opposite_was_asked_for_may_be_stale(
    wanted: bool, seen_after_s: float, step: Step
) -> None:
    progress = wanting(not wanted, asked=START)
    now = START + seen_after_s
    progress.want(wanted, now)
    # It was begun after LiveKit took the opposite, which LiveKit has not carried out by then.
    assert progress.step(view(wanted, now), True, now) == (step, None)
    assert progress.reached is (step is NOTHING)


def test_what_is_wanted_anew_is_begun_anew() -> None:
    progress = reached(False)
    progress.want(True, START + 2)
    assert progress.step(view(False, START + 2), True, START + 2) == (ASK, None)
    progress.want(True, START + 3)
    assert progress.wanted_at == START + 2
