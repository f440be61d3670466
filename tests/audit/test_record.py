"""The record is written whole and read by page, and nobody sees more of it than is theirs."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from tests.store.conftest import Clock
from track.v1.access_pb2 import Grants as GrantsMessage
from track.v1.access_pb2 import Principal as PrincipalMessage
from track.v1.audit_pb2 import AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse
from track_server.access.principal import Grants, Principal, anonymous
from track_server.audit import record as record_module
from track_server.audit.record import Record
from track_server.audit.recorder import Recorder
from track_server.cel import compile_filter
from track_server.errors import InvalidExpression, InvalidPageToken, StoreUnavailable
from track_server.store.sqlite import SqliteStore

DAY_S = 86_400.0
SERVICE = Principal("dashboard", Grants(room_list=True))
ADMIN = Principal("admin", Grants(room="a", room_admin=True))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "store.sqlite3", clock=clock) as opened:
        yield opened


@pytest.fixture
def record(store: SqliteStore) -> Record:
    return Record(store.journal, age_s=30 * DAY_S, entries=1000)


async def written(store: SqliteStore, *entries: AuditEntry) -> None:
    recorder = Recorder(store)
    await asyncio.gather(*(recorder.begin(entry) for entry in entries))
    assert (recorder.written, recorder.failed) == (len(entries), 0)


def entry(room: str = "a", number: int = 0, *, by: str = "", size: int = 0) -> AuditEntry:
    principal = PrincipalMessage(identity="alice", grants=GrantsMessage(room=by or room))
    return AuditEntry(room=room, request_id=f"{number}", code=number % 3, principal=principal, message="x" * size)


async def page(record: Record, reader: Principal = SERVICE, **query: object) -> ListAuditEntriesResponse:
    return await record.page(reader, ListAuditEntriesRequest(**query))  # type: ignore[arg-type]


async def walked(record: Record, reader: Principal = SERVICE, **query: object) -> tuple[list[str], int]:
    """The request ids of all pages together, and how many pages there are."""
    ids: list[str] = []
    token, pages = "", 0
    while True:
        answer = await page(record, reader, page_token=token, **query)
        ids += [found.request_id for found in answer.entries]
        pages += 1
        token = answer.next_page_token
        if not token:
            return ids, pages


async def test_pages_together_are_the_record_newest_first(store: SqliteStore, record: Record) -> None:
    await written(store, *(entry(number=n) for n in range(10)))
    everything = [str(n) for n in range(9, -1, -1)]
    assert await walked(record, room="a", page_size=3) == (everything, 4)
    assert await walked(record, page_size=5) == (everything, 2)
    assert await walked(record) == (everything, 1)
    numbers = [found.sequence for found in (await page(record)).entries]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 10


async def test_entries_that_come_while_pages_are_read_are_not_in_them(store: SqliteStore, record: Record) -> None:
    await written(store, *(entry(number=n) for n in range(4)))
    first = await page(record, room="a", page_size=2)
    await written(store, entry(number=4))
    second = await page(record, room="a", page_size=2, page_token=first.next_page_token)
    assert [found.request_id for found in second.entries] == ["1", "0"]
    assert second.next_page_token == ""


async def test_rooms_are_apart(store: SqliteStore, record: Record) -> None:
    await written(store, entry("a", 0), entry("b", 1), entry("", 2), entry("a", 3))
    assert (await walked(record, ADMIN, room="a"))[0] == ["3", "0"]
    assert (await walked(record, room="b"))[0] == ["1"]
    assert (await walked(record))[0] == ["3", "2", "1", "0"]
    assert (await walked(record, ADMIN, room="nowhere"))[0] == []


async def test_a_filter_chooses_and_where_it_fails_the_entry_does_not_match(store: SqliteStore, record: Record) -> None:
    await written(store, *(entry(number=n) for n in range(9)))
    assert (await walked(record, room="a", filter="entry.code == 2"))[0] == ["8", "5", "2"]
    assert (await walked(record, room="a", filter="entry.request.missing == 1"))[0] == []
    assert (await walked(record, room="a", filter='entry.principal.identity == "alice" && entry.sequence > 0'))[0]
    with pytest.raises(InvalidExpression):
        await page(record, room="a", filter="entry.nothing")


async def test_a_call_looks_at_a_bounded_part_and_tells_where_to_go_on(
    store: SqliteStore, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "_LOOKED_AT", 20)
    monkeypatch.setattr(record_module, "_CHUNK", 10)
    await written(store, *(entry(number=n) for n in range(50)))
    first = await page(record, room="a", filter='entry.request_id == "1"')
    assert (len(first.entries), first.next_page_token != "") == (0, True)
    assert await walked(record, room="a", filter='entry.request_id == "1"') == (["1"], 3)
    assert await walked(record, room="a", filter="false") == ([], 3)


async def test_a_page_fits_into_a_message_however_large_its_entries(store: SqliteStore, record: Record) -> None:
    await written(store, *(entry(number=n, size=1024 * 1024) for n in range(7)))
    first = await page(record, room="a", page_size=1000)
    assert 1 <= len(first.entries) < 4
    assert first.ByteSize() < 4 * 1024 * 1024
    assert (await walked(record, room="a", page_size=1000))[0] == [str(n) for n in range(6, -1, -1)]


async def test_a_token_of_another_query_and_a_damaged_one_are_refused(store: SqliteStore, record: Record) -> None:
    await written(store, *(entry(number=n) for n in range(3)))
    token = (await page(record, room="a", page_size=1)).next_page_token
    for room, expression in (("b", ""), ("", ""), ("a", "true")):
        with pytest.raises(InvalidPageToken):
            await page(record, page_token=token, room=room, filter=expression)
    for damaged in ("x", token[:-4], token + "AA"):
        with pytest.raises(InvalidPageToken):
            await page(record, room="a", page_token=damaged)


async def test_the_name_of_another_room_is_shown_to_services_alone_and_no_filter_tells_it(
    store: SqliteStore, record: Record
) -> None:
    await written(store, entry("a", 0, by="secret-room"), entry("a", 1))
    seen = await page(record, ADMIN, room="a")
    assert "secret-room" not in str(seen)
    assert [found.principal.grants.room for found in seen.entries] == ["a", ""]
    probe = 'entry.principal.grants.room.startsWith("secret")'
    assert (await walked(record, ADMIN, room="a", filter=probe))[0] == []
    for reader in (SERVICE, anonymous()):
        assert (await walked(record, reader, room="a", filter=probe))[0] == ["0"]


async def test_entries_are_kept_so_long_and_so_many(store: SqliteStore, record: Record, clock: Clock) -> None:
    await written(store, *(entry(number=n) for n in range(1100)))
    assert (await walked(record, room="a", page_size=1000))[0] == [str(n) for n in range(1099, 99, -1)]
    clock.now += 29 * DAY_S
    await written(store, entry(number=5000))
    clock.now += 1.5 * DAY_S
    assert (await walked(record, room="a"))[0] == ["5000"]


async def test_an_entry_that_cannot_be_written_is_logged_whole_and_the_next_mutation_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(tmp_path / "broken.sqlite3") as store:
        recorder = Recorder(store)
        await recorder.require_writable()
        with monkeypatch.context() as patch, structlog.testing.capture_logs() as logged:
            patch.setattr(store._transactions, "_before_commit", broken)
            await recorder.write(entry(number=7))
            with pytest.raises(StoreUnavailable):
                await recorder.require_writable()
        assert [line["event"] for line in logged] == ["audit_entry_not_written"]
        assert logged[0]["entry"]["requestId"] == "7"
        assert (recorder.written, recorder.failed) == (0, 1)
        await recorder.require_writable()
        await recorder.write(entry())
        assert (recorder.written, recorder.failed) == (1, 1)


def broken(connection: object) -> None:
    raise OSError("disk full")


async def test_closing_waits_for_what_was_begun(store: SqliteStore, record: Record) -> None:
    recorder = Recorder(store)
    begun = [recorder.begin(entry(number=n)) for n in range(10)]
    await recorder.aclose()
    assert all(task.done() for task in begun)
    await recorder.aclose()
    assert len((await page(record)).entries) == 10


def test_every_filter_in_the_documents_compiles() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    filters = re.findall(r"^\| `(entry\.[^`]*)` \|", text, re.MULTILINE)
    assert len(filters) >= 5
    for expression in filters:
        assert compile_filter(expression, "entry") is not None
