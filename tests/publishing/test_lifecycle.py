"""The life cycle: legal moves alone, and a lineage that tells what happened."""

import itertools

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from track.v1 import error_pb2, publication_pb2
from track.v1.publication_pb2 import Publication, PublicationState
from track_server.publishing import lifecycle
from track_server.publishing.lifecycle import ENDED, LIVE, MOVES, PENDING, RESTARTING, STARTING, IllegalMoveError

CALLER = publication_pb2.PUBLICATION_END_CAUSE_CALLER


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


def new() -> Publication:
    return lifecycle.begin(Publication(publication_id="PUB_1"), at(1))


def in_state(state: int) -> Publication:
    """A publication that was led to the state by legal moves."""
    publication = new()
    if state == PENDING:
        return publication
    publication = lifecycle.move(publication, STARTING, at(2))
    if state == STARTING:
        return publication
    publication = lifecycle.live(publication, "TR_1", at(3))
    if state == LIVE:
        return publication
    if state == RESTARTING:
        return lifecycle.move(publication, RESTARTING, at(4))
    return lifecycle.end(publication, CALLER, at(4))


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product([PENDING, STARTING, LIVE, RESTARTING, ENDED], repeat=2))
)
def test_only_legal_moves_are_made(before: PublicationState.ValueType, after: PublicationState.ValueType) -> None:
    publication = in_state(before)
    if after in MOVES[before]:
        assert lifecycle.move(publication, after, at(9)).state == after
    else:
        with pytest.raises(IllegalMoveError):
            lifecycle.move(publication, after, at(9))
        assert publication.state == before


def test_every_move_is_told_where_several_are_made_at_once() -> None:
    live = in_state(LIVE)
    restarting = lifecycle.move(live, RESTARTING, at(5), "lost")
    starting = lifecycle.move(restarting, STARTING, at(6))
    assert lifecycle.passed(live, starting) == [restarting, starting]
    assert lifecycle.passed(restarting, starting) == [starting]
    # No move at all, or the first one ever.
    muted = lifecycle.muted(starting, True)
    assert lifecycle.passed(starting, muted) == [muted]
    assert lifecycle.passed(None, new()) == [new()]


def test_a_sid_ends_when_the_next_one_begins() -> None:
    publication = lifecycle.live(in_state(LIVE), "TR_2", at(7))
    assert publication.track_sid == "TR_2"
    assert [(sid.track_sid, sid.begin_time.seconds, sid.end_time.seconds) for sid in publication.lineage] == [
        ("TR_1", 3, 7),
        ("TR_2", 7, 0),
    ]
    assert publication.state == LIVE
    assert len(publication.moves) == 3, "a new SID is no move of the life cycle"


def test_the_same_sid_again_changes_nothing() -> None:
    publication = in_state(LIVE)
    assert lifecycle.live(publication, "TR_1", at(9)) == publication


def test_what_is_not_live_has_no_sid() -> None:
    for state in (PENDING, STARTING, RESTARTING, ENDED):
        publication = in_state(state)
        assert publication.track_sid == ""
        assert all(sid.HasField("end_time") for sid in publication.lineage)


def test_an_end_tells_its_cause_and_clears_an_old_problem() -> None:
    troubled = lifecycle.troubled(in_state(STARTING), error_pb2.Problem(message="no worker"))
    over = lifecycle.end(troubled, CALLER, at(10))
    assert over.end_cause == CALLER
    assert not over.HasField("problem")
    assert over.expire_time.seconds == 10 + lifecycle.REMEMBERED_S


def test_the_past_is_bounded() -> None:
    publication = in_state(LIVE)
    for number in range(100):
        publication = lifecycle.live(publication, f"TR_{number + 2}", at(number))
    assert len(publication.lineage) == lifecycle.KEPT
    assert publication.lineage[-1].track_sid == "TR_101"


@given(st.lists(st.sampled_from([STARTING, LIVE, RESTARTING, ENDED]), max_size=30))
def test_no_sequence_of_moves_leaves_two_sids_open(states: list[PublicationState.ValueType]) -> None:
    publication = new()
    for number, state in enumerate(states):
        if state not in MOVES[publication.state]:
            continue
        if state == LIVE:
            publication = lifecycle.live(publication, f"TR_{number}", at(number))
        else:
            publication = lifecycle.move(publication, state, at(number))
        open_sids = [sid.track_sid for sid in publication.lineage if not sid.HasField("end_time")]
        assert open_sids == ([publication.track_sid] if publication.state == LIVE else [])
