"""Secrets of a publication whose spec is changed: neither lost nor shown, and none of an earlier spec is left."""

from pathlib import Path

from track.v1.publication_pb2 import Publication
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.rooms.room import now
from track_server.store.sqlite import SqliteStore

SIGNED = "https://media.example.com/film.mkv?signature={}"
SHOWN = "https://media.example.com/film.mkv"


def film(uri: str) -> Publication:
    publication = Publication(publication_id="PUB_a", room="r")
    publication.spec.file.uri = uri
    return lifecycle.begin(publication, now())


async def test_a_changed_spec_has_its_own_secrets(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store") as store:
        book = Book(store)
        await book.save(film(SIGNED.format("one")))
        for uri in (SIGNED.format("two"), SHOWN, SIGNED.format("three")):
            known = book.find("r", "PUB_a")
            assert known is not None
            changed = Publication()
            changed.CopyFrom(book.whole(known))
            changed.spec.file.uri = uri
            await book.rewrite(changed)
            after = book.find("r", "PUB_a")
            assert after is not None
            assert after.spec.file.uri == SHOWN
            assert book.whole(after).spec.file.uri == uri
            # What is stored is whole, also where nothing but the secret differs.
            again = Book(store)
            await again.load()
            found = again.find("r", "PUB_a")
            assert found is not None
            assert again.whole(found).spec.file.uri == uri
