"""What a session's worker tells, and of which publications it may."""

from pathlib import Path

import pytest

from track.media.v1 import media_service_pb2 as media
from track.v1 import publication_pb2
from track.v1.publication_pb2 import Publication
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.carried import Carried
from track_server.publishing.lifecycle import LIVE, STARTING
from track_server.rooms.room import now
from track_server.store.sqlite import SqliteStore


@pytest.mark.parametrize(("identity", "state"), [("studio", LIVE), ("stage", STARTING)])
async def test_one_session_does_not_speak_for_another(
    tmp_path: Path, identity: str, state: "publication_pb2.PublicationState.ValueType"
) -> None:
    async with SqliteStore(tmp_path / "store") as store:
        book = Book(store)
        publication = Publication(
            publication_id="PUB_a",
            room="r",
            participant_identity="studio",
            route=publication_pb2.PUBLICATION_ROUTE_HOSTED,
        )
        await book.save(lifecycle.move(lifecycle.begin(publication, now()), STARTING, now()))
        carried = Carried(book, "r", identity, lambda: None, lambda *_: False, lambda _: None)
        await carried.report(
            media.HostedTrackReport(publication_id="PUB_a", track_sid="TR_a", state=media.HOSTED_TRACK_STATE_PUBLISHED)
        )
        found = book.find("r", "PUB_a")
        assert found is not None
        assert found.state == state
