"""Decisions of the permission service that are kept: for how long, until which change, and how many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1.access_pb2 import Permission
from track_server.access.bounds import Bounds, Description
from track_server.access.principal import Grants, Principal
from track_server.access.question import EVERYTHING, Question, Touch
from track_server.access.service_mode.decisions import Asked, Decision, Decisions, key_of

READ = Permission.PERMISSION_READ_TRACKS
MUTE = Permission.PERMISSION_MUTE
ALICE = Principal("alice", Grants(room="a", room_join=True))
BOB = Principal("bob", Grants(room="a", room_join=True))


def decisions(*, entries: int = 100, max_lifetime_s: float = 60, stale_s: float = 20) -> "Decisions[Asked]":
    kept: Decisions[Asked] = Decisions(entries=entries, max_lifetime_s=max_lifetime_s, stale_s=stale_s)
    kept.hear()
    return kept


def learn(
    kept: "Decisions[Asked]",
    question: Question,
    *,
    principal: Principal = ALICE,
    allowed: bool = True,
    at: float = 0,
    lifetime_s: float = 30,
) -> Decision:
    """The question is asked and answered at once."""
    asked = Asked(principal, question)
    kept.ask(asked)
    decision = Decision(allowed, at, lifetime_s)
    kept.answered(asked, decision)
    return decision


ROOM = Question(READ, "a")
TRACK = Question(MUTE, "a", "bob", "TR_1", Description(width=320))


@pytest.mark.parametrize("allowed", [True, False])
def test_a_decision_counts_for_its_lifetime_and_no_longer(allowed: bool) -> None:
    kept = decisions()
    decision = learn(kept, ROOM, allowed=allowed, at=5, lifetime_s=10)
    key = key_of(ALICE, ROOM)
    assert kept.known(key, 5) is decision
    assert kept.known(key, 14.9) is decision
    assert kept.known(key, 15) is None
    assert kept.allows_room(ALICE, READ, "a", 14.9) is allowed
    assert not kept.allows_room(ALICE, READ, "a", 15)


def test_no_lifetime_is_longer_than_the_longest() -> None:
    kept = decisions(max_lifetime_s=3)
    learn(kept, ROOM, lifetime_s=1000)
    assert kept.known(key_of(ALICE, ROOM), 2.9) is not None
    assert kept.known(key_of(ALICE, ROOM), 3) is None


@pytest.mark.parametrize(("lifetime_s", "longest_s", "entries"), [(0, 60, 100), (30, 0, 100), (30, 60, 0)])
def test_what_may_not_be_kept_is_not(lifetime_s: float, longest_s: float, entries: int) -> None:
    kept = decisions(max_lifetime_s=longest_s, entries=entries)
    learn(kept, ROOM, lifetime_s=lifetime_s)
    assert len(kept) == 0
    kept.lose()
    assert kept.stale(key_of(ALICE, ROOM), 0) is None


def test_a_later_answer_takes_the_place_of_the_one_before_even_where_it_may_not_be_kept() -> None:
    kept = decisions()
    learn(kept, ROOM)
    learn(kept, ROOM, allowed=False, lifetime_s=0)
    assert kept.known(key_of(ALICE, ROOM), 0) is None
    kept.lose()
    assert kept.stale(key_of(ALICE, ROOM), 0) is None


def test_a_decision_counts_for_the_same_principal_and_the_same_question_alone() -> None:
    kept = decisions()
    learn(kept, TRACK)
    others = [
        (BOB, TRACK),
        (Principal("alice", Grants(room="a", room_join=True, can_publish=True)), TRACK),
        (ALICE, Question(READ, "a", "bob", "TR_1", Description(width=320))),
        (ALICE, Question(MUTE, "b", "bob", "TR_1", Description(width=320))),
        (ALICE, Question(MUTE, "a", "eve", "TR_1", Description(width=320))),
        (ALICE, Question(MUTE, "a", "bob", "TR_2", Description(width=320))),
        (ALICE, Question(MUTE, "a", "bob", "TR_1", Description(width=640))),
        (ALICE, Question(MUTE, "a", "bob", "TR_1")),
    ]
    assert kept.known(key_of(ALICE, TRACK), 1) is not None
    assert [kept.known(key_of(*other), 1) for other in others] == [None] * len(others)
    assert not kept.allows_room(ALICE, MUTE, "a", 1)


def test_the_oldest_goes_first() -> None:
    kept = decisions(entries=2)
    questions = [Question(READ, room) for room in "abc"]
    for question in questions:
        learn(kept, question)
    assert [kept.known(key_of(ALICE, question), 1) is not None for question in questions] == [False, True, True]
    learn(kept, questions[1])  # is the youngest now
    learn(kept, questions[0])
    assert [kept.known(key_of(ALICE, question), 1) is not None for question in questions] == [True, True, False]
    assert len(kept) == 2


CHANGES = [
    (Touch(), True),
    (Touch(room="a"), True),
    (Touch(room="b"), False),
    (Touch(principal_identity="alice"), True),
    (Touch(principal_identity="bob"), False),
    (Touch(participant_identity="bob"), True),
    (Touch(participant_identity="alice"), False),
    (Touch(track_sid="TR_1"), True),
    (Touch(track_sid="TR_2"), False),
    (Touch(permissions=frozenset({READ, MUTE})), True),
    (Touch(permissions=frozenset({READ})), False),
    (Touch("alice", "a", "bob", "TR_1", frozenset({MUTE})), True),
    (Touch("alice", "a", "bob", "TR_2", frozenset({MUTE})), False),
]


@pytest.mark.parametrize(("touch", "touched"), CHANGES, ids=repr)
def test_a_change_empties_what_it_touches(touch: Touch, touched: bool) -> None:
    kept = decisions()
    learn(kept, TRACK)
    other = Question(Permission.PERMISSION_SUBSCRIBE, "elsewhere")
    learn(kept, other, principal=Principal("carol"))
    kept.change([touch])
    assert (kept.known(key_of(ALICE, TRACK), 1) is None) is touched
    assert (kept.known(key_of(Principal("carol"), other), 1) is None) is (touch == EVERYTHING)


@pytest.mark.parametrize(("touch", "touched"), CHANGES, ids=repr)
def test_an_answer_that_a_change_has_overtaken_is_not_kept_and_nobody_joins_its_question(
    touch: Touch, touched: bool
) -> None:
    kept = decisions()
    asked = Asked(ALICE, TRACK)
    kept.ask(asked)
    assert kept.on_its_way(asked.key) is asked
    kept.change([touch])
    assert asked.outdated is touched
    assert (kept.on_its_way(asked.key) is None) is touched
    kept.answered(asked, Decision(True, 0, 30))
    assert (kept.known(asked.key, 1) is None) is touched
    kept.lose()
    assert (kept.stale(asked.key, 1) is None) is touched


def test_the_answer_of_an_overtaken_question_leaves_that_of_a_later_one_alone() -> None:
    kept = decisions()
    before = Asked(ALICE, ROOM)
    kept.ask(before)
    kept.change([EVERYTHING])
    after = Asked(ALICE, ROOM)
    kept.ask(after)
    kept.answered(before, Decision(True, 0, 30))
    assert kept.on_its_way(after.key) is after
    kept.answered(after, Decision(False, 0, 30))
    known = kept.known(after.key, 1)
    assert known is not None
    assert not known.allowed
    assert kept.on_its_way(after.key) is None


def test_nothing_is_known_while_changes_are_not_heard_of() -> None:
    kept = decisions()
    learn(kept, ROOM)
    kept.lose()
    assert kept.known(key_of(ALICE, ROOM), 1) is None
    assert not kept.allows_room(ALICE, READ, "a", 1)
    learn(kept, ROOM, at=1)
    assert kept.known(key_of(ALICE, ROOM), 1) is None


def test_an_allow_stands_in_up_to_the_age_that_is_set_and_never_beyond_its_lifetime() -> None:
    kept = decisions(stale_s=20)
    learn(kept, ROOM, at=0, lifetime_s=60)
    learn(kept, TRACK, at=0, lifetime_s=5)
    kept.lose()
    assert kept.stale(key_of(ALICE, ROOM), 20) is not None
    assert kept.stale(key_of(ALICE, ROOM), 20.1) is None
    assert kept.stale(key_of(ALICE, TRACK), 4.9) is not None
    assert kept.stale(key_of(ALICE, TRACK), 5) is None


def test_a_denial_never_stands_in() -> None:
    kept = decisions()
    learn(kept, ROOM, allowed=False)
    kept.lose()
    assert kept.stale(key_of(ALICE, ROOM), 1) is None


def test_when_changes_are_heard_of_again_nothing_from_before_counts() -> None:
    kept = decisions()
    learn(kept, ROOM)
    on_its_way = Asked(ALICE, TRACK)
    kept.ask(on_its_way)
    kept.lose()
    learn(kept, Question(READ, "b"))
    kept.hear()
    kept.answered(on_its_way, Decision(True, 0, 30))
    assert len(kept) == 0
    kept.lose()
    assert kept.stale(key_of(ALICE, ROOM), 1) is None


def test_bounds_and_reason_are_kept_with_the_decision() -> None:
    kept = decisions()
    asked = Asked(ALICE, ROOM)
    kept.ask(asked)
    decision = Decision(True, 0, 30, "because", Bounds(max_width=640))
    kept.answered(asked, decision)
    assert kept.known(asked.key, 1) == decision


@dataclass
class Truth:
    """What the service would decide now, and all that it answered: by hand, without any of the cache's own ideas."""

    rules: dict[tuple[Principal, Question], bool] = field(default_factory=dict)
    answered: dict[tuple[Principal, Question], list[tuple[float, bool, float]]] = field(default_factory=dict)

    def backed(self, who: tuple[Principal, Question], now: float, oldest_s: float) -> bool:
        """Whether there was an allow for just that, within its lifetime and not older than so."""
        return any(
            allowed and now < asked + lifetime and now - asked <= oldest_s
            for asked, allowed, lifetime in self.answered.get(who, [])
        )


PRINCIPALS = [ALICE, BOB]
QUESTIONS = [ROOM, TRACK, Question(READ, "b"), Question(MUTE, "a", "alice", "TR_2")]
TOUCHES = [EVERYTHING, Touch(room="a"), Touch(room="b"), Touch(principal_identity="bob"), Touch(track_sid="TR_1")]
WHO = st.tuples(st.sampled_from(PRINCIPALS), st.sampled_from(QUESTIONS))
STEPS = st.one_of(
    st.tuples(st.just("ask"), WHO),
    st.tuples(st.just("answer"), st.floats(0, 50)),
    st.tuples(st.just("fail"), st.none()),
    st.tuples(st.just("change"), st.tuples(st.sampled_from(TOUCHES), st.booleans())),
    st.tuples(st.just("hear"), st.none()),
    st.tuples(st.just("lose"), st.none()),
    st.tuples(st.just("wait"), st.floats(0, 15)),
)


@given(steps=st.lists(STEPS, max_size=60), entries=st.integers(0, 4))
def test_nothing_counts_that_was_not_answered_or_that_a_change_has_touched_since(
    steps: Sequence[tuple[str, Any]], entries: int
) -> None:
    kept = decisions(entries=entries, max_lifetime_s=30, stale_s=10)
    truth = Truth()
    now, hearing = 0.0, True
    on_its_way: list[tuple[Asked, float, bool]] = []
    for step, value in steps:
        match step:
            case "ask":
                asked = Asked(*value)
                if kept.on_its_way(asked.key) is None:
                    kept.ask(asked)
                    # The service decides when it is asked; the answer is on its way for as long as it likes.
                    on_its_way.append((asked, now, truth.rules.get(value, True)))
            case "answer" if on_its_way:
                asked, since, allowed = on_its_way.pop(0)
                kept.answered(asked, Decision(allowed, since, value))
                truth.answered.setdefault((asked.principal, asked.question), []).append(
                    (since, allowed, min(value, 30))
                )
            case "fail" if on_its_way:
                kept.unanswered(on_its_way.pop(0)[0])
            case "change":
                touch, allowed = value
                for who in [(principal, question) for principal in PRINCIPALS for question in QUESTIONS]:
                    if touch.touches(who[0].identity, who[1]):
                        truth.rules[who] = allowed
                if hearing:
                    kept.change([touch])
            case "hear":
                kept.hear()
                hearing = True
            case "lose":
                kept.lose()
                hearing = False
            case "wait":
                now += value
            case _:
                pass
        assert len(kept) <= entries
        for who in [(principal, question) for principal in PRINCIPALS for question in QUESTIONS]:
            known, stale = kept.known(key_of(*who), now), kept.stale(key_of(*who), now)
            if known is not None:
                assert hearing
                # Every change was heard of, so what is known is what the service would say.
                assert known.allowed == truth.rules.get(who, True)
                assert not known.allowed or truth.backed(who, now, oldest_s=30)
            if stale is not None:
                assert stale.allowed
                assert truth.backed(who, now, oldest_s=10)
