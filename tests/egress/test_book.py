"""The shelf of recordings: by id, by room, and those that have not ended; and the records of the book."""

from pathlib import Path

import pytest

from track.v1 import egress_pb2 as pb
from track.v1.egress_pb2 import TrackEgress
from track_server.egress.book import EgressBook, Shelf
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore


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


class Failing(SqliteStore):
    """A store whose deletions fail while ``broken``."""

    broken = False

    async def delete(self, kind: str, room: str, key: str) -> bool:
        if self.broken:
            raise StoreError("the disk is full")
        return await super().delete(kind, room, key)


async def test_a_recording_that_was_forgotten_while_the_store_failed_does_not_come_back(tmp_path: Path) -> None:
    async with Failing(tmp_path / "store") as store:
        book = EgressBook(store, lambda *_: None)
        for egress_id in ("TEG_a", "TEG_b"):
            await book.save(recording(egress_id))
        store.broken = True
        with pytest.raises(StoreError):
            await book.forget(recording("TEG_a"), None)
        store.broken = False
        await book.save(recording("TEG_c"))
        again = EgressBook(store, lambda *_: None)
        await again.load()
        assert [found.egress_id for found in again.of_room("demo")] == ["TEG_b", "TEG_c"]
