"""The reading end of the record: pages of it, filtered."""

from typing import Final

from track.v1.access_pb2 import PrincipalKind
from track.v1.audit_pb2 import AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse
from track_server.access.principal import Principal
from track_server.audit.recorder import KIND
from track_server.cel import compile_filter, in_time
from track_server.errors import InvalidPageToken
from track_server.paging import DEFAULT_PAGE_SIZE, page_token, position_in
from track_server.store.journal import Journal, JournalEntry

# A call looks at so many entries at most (an evaluation takes about 10 us), read so many at a time.
_LOOKED_AT: Final = 5000
_CHUNK: Final = 250
# Clients take messages of 4 MiB by default. One entry has 200 kB at most.
_PAGE_BYTES: Final = 3 * 1024 * 1024

_MAX_SEQUENCE: Final = 2**63

# May see the names of all rooms.
_ALL_ROOMS: Final = frozenset({PrincipalKind.PRINCIPAL_KIND_SERVICE, PrincipalKind.PRINCIPAL_KIND_ANONYMOUS})


class Record:
    """What was recorded in ``journal``, kept ``age_s`` seconds and ``entries`` entries at most."""

    def __init__(self, journal: Journal, *, age_s: float, entries: int) -> None:
        self._journal = journal
        journal.retain(KIND, age_s=age_s, entries=entries)

    async def page(self, reader: Principal, request: ListAuditEntriesRequest) -> ListAuditEntriesResponse:
        """A page, newest first, as ``reader`` may see it, who may read the record of the request's room.

        Raises InvalidExpression, InvalidPageToken.
        """
        compiled = compile_filter(request.filter, "entry")
        matches = in_time(compiled)
        query = ("audit", request.room, request.filter)
        before = _before(request.page_token, query)
        size = request.page_size or DEFAULT_PAGE_SIZE
        sees_rooms = reader.kind in _ALL_ROOMS
        answer = ListAuditEntriesResponse()
        looked_at = taken_bytes = 0
        while looked_at < _LOOKED_AT:
            # One more than is shown tells whether there is a next page.
            wanted = min(_CHUNK, size - len(answer.entries) + 1) if compiled is None else _CHUNK
            rows = await self._journal.newest(KIND, request.room or None, before=before, limit=wanted)
            for row in rows:
                if len(answer.entries) == size or (answer.entries and taken_bytes + len(row.body) > _PAGE_BYTES):
                    answer.next_page_token = page_token((before or 0,), query)
                    return answer
                entry = _shown(row, sees_rooms=sees_rooms)
                before = row.sequence
                if matches(entry):
                    taken_bytes += len(row.body)
                    answer.entries.append(entry)
            if len(rows) < wanted:
                return answer
            looked_at += len(rows)
        answer.next_page_token = page_token((before or 0,), query)
        return answer


def _shown(row: JournalEntry, *, sees_rooms: bool) -> AuditEntry:
    """The entry as a reader may see it, before a filter could tell more."""
    entry = AuditEntry.FromString(row.body)
    entry.sequence = row.sequence
    if not sees_rooms and entry.HasField("principal") and entry.principal.grants.room != row.room:
        entry.principal.grants.room = ""
    return entry


def _before(token: str, query: tuple[str, ...]) -> int | None:
    if not token:
        return None
    match position_in(token, query):
        case (int(before),) if 0 < before < _MAX_SEQUENCE:
            return before
    raise InvalidPageToken("the page token is damaged", field="page_token")
