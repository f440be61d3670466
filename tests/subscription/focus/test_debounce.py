"""What comes into focus does so within 200 ms, what goes out of it after 2 s, and it does not flutter."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from track_server.subscription.focus.debounce import FALL_S, RISE_S, Debounce

TRACKS: Final = ("TR_a", "TR_b", "TR_c")
STEP_S: Final = 0.05
ALL: Final = frozenset(TRACKS)

Timeline = list[tuple[float, Mapping[str, int]]]
"""When the ranks were others, in seconds, and what they were from then on."""


def played(timeline: Timeline, until: float) -> list[tuple[float, dict[str, int]]]:
    """What shows whenever the ranks change, the debounce says that it will, and at each step between."""
    debounce, shown, now = Debounce(), [], 0.0
    waiting = list(timeline)
    while now <= until:
        while waiting and waiting[0][0] <= now:
            debounce.rank(waiting.pop(0)[1], ALL, now)
        shown.append((now, debounce.shown(now)))
        # Never in the past: a timer that waits for it would turn for ever.
        due = debounce.due()
        assert due is None or due > now
        coming = [at for at in (waiting[0][0] if waiting else None, due) if at is not None]
        now = min([*coming, now + STEP_S])
    return shown


@st.composite
def timelines(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Half a minute of one track: how long it had a level, in hundredths of a second, and which. Some are blips.

    All are multiples of three, which RISE_S and FALL_S are not: nothing falls on the moment itself.
    """
    lengths = st.sampled_from([3, 6, 9, 12, 30, 42, 99, 198, 201, 501])
    return draw(st.lists(st.tuples(lengths, st.integers(0, 5)), max_size=30))


def brute(levels: list[int]) -> list[int]:
    """What shows at each hundredth of a second, by the words of the contract: a level counts once it was exceeded for
    RISE_S, and the highest that counted within FALL_S shows."""
    rise, fall = round(RISE_S * 100), round(FALL_S * 100)
    taken, above, counted = 0, 0, []
    for level in levels:
        above = above + 1 if level > taken else 0
        if level < taken or above > rise:
            taken, above = level, 0
        counted.append(taken)
    return [max(counted[max(0, at - fall) : at + 1]) for at in range(len(counted))]


@settings(max_examples=50)
@given(timelines())
def test_it_is_the_highest_level_of_the_last_two_seconds(timeline: list[tuple[int, int]]) -> None:
    levels = [level for length, level in timeline for _ in range(length)] + [0] * 300
    debounce, shown, before = Debounce(), [], 0
    for at, level in enumerate(levels):
        if level != before:
            debounce.rank({"TR_a": level} if level else {}, ALL, at / 100)
            before = level
        # A little later: sums of hundredths are not exact.
        shown.append(debounce.shown(at / 100 + 0.001).get("TR_a", 0))
    assert shown == brute(levels)
    assert shown[-1] == 0
    assert debounce.due() is None


def test_speech_of_ten_minutes_changes_focus_when_turns_do_and_not_with_every_word() -> None:
    # Each speaks for 8 s in words of 1.2 s with breaks of 0.4 s, in turns.
    timeline: Timeline = []
    turns = 75
    for turn in range(turns):
        sid = TRACKS[turn % 3]
        for word in range(5):
            begin = turn * 8 + word * 1.6
            timeline += [(begin, {sid: 75}), (begin + 1.2, {})]
    shown = [tuple(levels) for _, levels in played(timeline, turns * 8)]
    changes = sum(1 for before, after in itertools.pairwise(shown) if before != after)
    # One comes in, the one before goes out: twice a turn.
    assert changes <= 2 * turns
    assert {(sid,) for sid in TRACKS} <= set(shown)


@pytest.mark.parametrize(
    ("changes", "looks"),
    [
        pytest.param([(0, 5)], {0.09: 0, 0.11: 5, 60: 5}, id="comes in within 200 ms"),
        pytest.param([(0, 5), (0.05, 0)], {0.04: 0, 0.2: 0}, id="a blip is nothing"),
        pytest.param([(0, 5), (1, 0)], {2.9: 5, 3.01: 0}, id="goes out after 2 s"),
        pytest.param([(0, 5), (1, 0), (2.5, 5), (10, 0)], {3.5: 5, 11.9: 5, 12.01: 0}, id="comes back in time"),
        pytest.param([(0, 3), (1, 5)], {1.05: 3, 1.11: 5}, id="rises within focus"),
        pytest.param([(0, 5), (1, 3), (2, 4), (2.5, 1)], {2.9: 5, 3.1: 4, 4.4: 4, 4.6: 1}, id="falls step by step"),
        pytest.param([(0, 3), (0.08, 5), (0.16, 4)], {0.11: 5, 2.15: 5, 2.2: 4}, id="rises to what is there then"),
    ],
)
def test_a_level(changes: Sequence[tuple[float, int]], looks: Mapping[float, int]) -> None:
    timeline: Timeline = [(at, {"TR_a": level} if level else {}) for at, level in changes]
    found = played(timeline, max(looks) + STEP_S)
    for at, level in looks.items():
        last = [levels for now, levels in found if now <= at][-1]
        assert last.get("TR_a", 0) == level, at


def test_a_call_takes_hold_at_once_and_a_track_that_is_gone_is_out_at_once() -> None:
    debounce = Debounce()
    debounce.rank({"TR_a": 5, "TR_b": 4}, ALL, 10.0, at_once=True)
    assert debounce.shown(10.0) == {"TR_a": 5, "TR_b": 4}
    assert debounce.due() is None
    debounce.rank({"TR_b": 4}, {"TR_b"}, 10.1)
    assert debounce.shown(10.1) == {"TR_b": 4}


def test_the_most_important_is_first() -> None:
    debounce = Debounce()
    debounce.rank({"TR_a": 1, "TR_b": 3, "TR_c": 2}, ALL, 0.0, at_once=True)
    assert list(debounce.shown(0.0)) == ["TR_b", "TR_c", "TR_a"]
    # Both had the first place within two seconds: the one that came to it last goes before.
    debounce.rank({"TR_c": 3, "TR_b": 2}, ALL, 1.0)
    assert list(debounce.shown(1.2)) == ["TR_c", "TR_b", "TR_a"]
    assert debounce.shown(1.2) == {"TR_c": 3, "TR_b": 3, "TR_a": 1}
    assert debounce.shown(3.1) == {"TR_c": 3, "TR_b": 2}


def test_a_copy_goes_on_by_itself() -> None:
    debounce = Debounce()
    debounce.rank({"TR_a": 1, "TR_b": 1}, ALL, 0.0, at_once=True)
    debounce.rank({"TR_a": 1}, ALL, 1.0)
    copy = debounce.copy()
    copy.forget(["TR_a"])
    assert copy.shown(1.0) == {"TR_b": 1}
    assert debounce.shown(3.5) == {"TR_a": 1}
    assert copy.shown(2.5) == {"TR_b": 1}
    assert copy.shown(3.5) == {}
