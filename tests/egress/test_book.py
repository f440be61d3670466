"""The shelf of recordings: by id, by room, and those that have not ended."""

from track.v1 import egress_pb2 as pb
from track.v1.egress_pb2 import TrackEgress
from track_server.egress.book import Shelf


def recording(egress_id: str, room: str = "demo", state: int = pb.EGRESS_STATE_ACTIVE) -> TrackEgress:
    return TrackEgress(egress_id=egress_id, room=room, state=state)  # type: ignore[arg-type]  # a state


def test_a_recording_is_found_by_its_id_its_room_and_as_long_as_it_has_not_ended() -> None:
    shelf = Shelf()
    first, second, other = recording("TEG_a"), recording("TEG_b"), recording("TEG_c", "other")
    for egress in (first, second, other):
        shelf.put(egress)
    assert shelf.get("TEG_b") is second
    assert shelf.of_room("demo") == [first, second]
    assert shelf.active() == list(shelf.all()) == [first, second, other]
    over = recording("TEG_a", state=pb.EGRESS_STATE_COMPLETE)
    shelf.put(over)
    assert shelf.active() == [second, other]
    assert shelf.of_room("demo") == [over, second]
    assert shelf.pop("TEG_a") is over
    assert shelf.pop("TEG_a") is None
    assert shelf.pop("TEG_c") is other
    assert (shelf.of_room("other"), shelf.get("TEG_c")) == ([], None)
    assert shelf.active() == list(shelf.all()) == [second]
