"""The cause of what LiveKit tells of: the next event alone, of the right kind and subject, and not for long."""

from track.v1 import event_pb2, publication_pb2, track_pb2
from track_server.rooms.causes import Causes, rule_cause

CAUSE = event_pb2.EventCause(principal_identity="admin", request_id="r1", reason="noise")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def muted(sid: str = "TR_1", publication_id: str = "") -> event_pb2.RoomEvent:
    return event_pb2.RoomEvent(track_muted=track_pb2.Track(sid=sid, publication_id=publication_id))


def attributed(causes: Causes, event: event_pb2.RoomEvent) -> bool:
    causes.attribute(event)
    return event.HasField("cause")


def test_the_next_event_of_that_kind_about_that_track_has_the_cause_and_the_one_after_not() -> None:
    causes = Causes()
    causes.expect("track_muted", "TR_1", CAUSE)
    assert not attributed(causes, muted("TR_2"))
    assert not attributed(causes, event_pb2.RoomEvent(track_unmuted=track_pb2.Track(sid="TR_1")))
    event = muted()
    assert attributed(causes, event)
    assert event.cause == CAUSE
    assert not attributed(causes, muted())


def test_a_track_without_a_sid_yet_is_known_by_its_publication() -> None:
    causes = Causes()
    causes.expect("track_published", "PUB_1", CAUSE)
    assert not attributed(causes, event_pb2.RoomEvent(track_published=track_pb2.Track(sid="TR_1")))
    assert attributed(causes, event_pb2.RoomEvent(track_published=track_pb2.Track(sid="TR_2", publication_id="PUB_1")))


def test_what_does_not_hold_is_not_the_event_that_is_expected() -> None:
    causes = Causes()
    ended = publication_pb2.PUBLICATION_STATE_ENDED
    causes.expect("publication_moved", "PUB_1", CAUSE, lambda event: event.publication_moved.state == ended)
    moved = publication_pb2.Publication(publication_id="PUB_1", state=publication_pb2.PUBLICATION_STATE_LIVE)
    assert not attributed(causes, event_pb2.RoomEvent(publication_moved=moved))
    moved.state = ended
    assert attributed(causes, event_pb2.RoomEvent(publication_moved=moved))


def test_after_ten_seconds_nothing_is_expected_any_more() -> None:
    clock = Clock()
    causes = Causes(clock)
    causes.expect("track_muted", "TR_1", CAUSE)
    clock.now += 10.0
    assert not attributed(causes, muted())


def test_what_is_taken_back_is_not_expected() -> None:
    causes = Causes()
    causes.expect("track_muted", "TR_1", CAUSE)
    causes.forget("track_muted", "TR_1")
    causes.forget("track_muted", "TR_2")
    assert not attributed(causes, muted())


def test_a_cause_that_an_event_has_stays() -> None:
    causes = Causes()
    causes.expect("track_muted", "TR_1", CAUSE)
    event = muted()
    event.cause.CopyFrom(rule_cause("expire_time", "lunch"))
    causes.attribute(event)
    assert (event.cause.rule, event.cause.reason) == ("expire_time", "lunch")
    assert attributed(causes, muted())


def test_an_event_about_nobody_is_left_alone() -> None:
    causes = Causes()
    causes.expect("track_muted", "", CAUSE)
    assert not attributed(causes, event_pb2.RoomEvent())
    assert not attributed(causes, event_pb2.RoomEvent(room_closed=event_pb2.RoomClosed()))
