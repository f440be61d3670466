"""For how long media did not flow, out of what was seen of counters."""

import pytest

from track_server.flow import Flow, gap_ms
from track_server.livekit.debug import DownTrack
from track_server.publishing.gaps import SubscriberGaps


def flow(*looks: tuple[float, int], before: int = 0) -> Flow:
    found = Flow(before)
    for now_s, count in looks:
        found.look(count, now_s)
    return found


def test_a_flow_is_known_by_when_its_counter_grew() -> None:
    seen = flow((1.0, 5), (1.1, 5), (1.3, 6), (1.4, 6), before=5)
    assert (seen.first_s, seen.last_s) == (1.3, 1.3)
    assert seen.longest_s == pytest.approx(0.2)
    # One that goes back is another one.
    assert flow((1.0, 5), (2.0, 1), (3.0, 2)).last_s == 3.0


def test_a_gap_is_between_the_last_of_the_old_and_the_first_of_the_new() -> None:
    assert gap_ms(flow((1.0, 1), (2.0, 2)), flow((2.0, 0), (2.5, 1))) == pytest.approx(500)
    assert gap_ms(flow((1.0, 1), (3.0, 2)), flow((2.0, 1))) == 0
    assert gap_ms(flow(), flow((2.0, 1))) is None
    assert gap_ms(flow((1.0, 1)), flow((2.0, 0))) is None


def sent(sid: str, who: str, packets: int, *, bound: bool = True, disabled: bool = False) -> DownTrack:
    return DownTrack(sid, who, bound, 0, disabled, packets)


def test_each_subscriber_of_the_old_track_has_its_gap() -> None:
    gaps = SubscriberGaps("TR_old")
    gaps.new_sid = "TR_new"
    gaps.look([sent("TR_old", "ann", 5), sent("TR_old", "ben", 5), sent("TR_old", "eve", 5, disabled=True)], 1.0)
    assert gaps.waiting == {"ann", "ben"}
    gaps.look([sent("TR_old", "ann", 6), sent("TR_new", "ann", 1), sent("TR_old", "ben", 6)], 1.1)
    assert gaps.waiting == {"ben"}
    gaps.look([sent("TR_new", "ann", 9), sent("TR_new", "ben", 1), sent("TR_new", "new", 1)], 1.3)
    assert not gaps.waiting
    ann, ben = gaps.message()
    assert ann.participant_identity == "ann"
    assert ann.gap_ms == 0
    assert ben.participant_identity == "ben"
    assert ben.gap_ms == pytest.approx(200)
    assert ben.resolution_ms == pytest.approx(100)


def test_who_receives_is_known_at_once_and_that_it_flows_with_the_next_packet() -> None:
    gaps = SubscriberGaps("TR_old")
    gaps.look([sent("TR_old", "ann", 5), sent("TR_old", "ben", 5)], 1.0)
    assert gaps.receivers == {"ann", "ben"}
    assert not gaps.flowing
    gaps.look([sent("TR_old", "ann", 6), sent("TR_old", "ben", 5)], 1.1)
    assert gaps.flowing == {"ann"}


def test_what_was_never_seen_has_no_number() -> None:
    gaps = SubscriberGaps("TR_old")
    gaps.look([sent("TR_old", "ann", 5)], 1.0)
    gaps.look([sent("TR_old", "ann", 6)], 1.1)
    (ann,) = gaps.message()
    assert not ann.HasField("gap_ms")
