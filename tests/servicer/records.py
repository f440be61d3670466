"""The record of operations as tests read it, and what they have recorded."""

import asyncio
from typing import Any

import grpc

from tests.publications import DEADLINE_S, TONE
from tests.track_process import Client
from track.v1 import (
    publication_pb2,
)
from track.v1.audit_pb2 import AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse

DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NO_WORKERS = {"TRACK_MEDIA_WORKERS": "0"}


async def page(client: Client, **query: Any) -> ListAuditEntriesResponse:
    answer: ListAuditEntriesResponse = await client.ListAuditEntries(ListAuditEntriesRequest(**query), timeout=45)
    return answer


async def record(client: Client, room: str, **query: Any) -> list[AuditEntry]:
    """All pages together, oldest first."""
    found: list[AuditEntry] = []
    token = ""
    while True:
        answer = await page(client, room=room, page_token=token, **query)
        found += answer.entries
        token = answer.next_page_token
        if not token:
            return found[::-1]


async def eventually(client: Client, room: str, count: int) -> list[AuditEntry]:
    """The record once it has so many entries: that of a caller who is gone comes after it went."""
    async with asyncio.timeout(DEADLINE_S):
        while len(found := await record(client, room)) < count:
            await asyncio.sleep(0.02)
    return found


def rpc(entry: AuditEntry) -> str:
    return entry.method.removeprefix("/track.v1.TrackService/")


def asked(room: str, identity: str = "", request_id: str = "", **more: Any) -> publication_pb2.PublishTrackRequest:
    return publication_pb2.PublishTrackRequest(
        room=room, spec=TONE, participant_identity=identity, request_id=request_id, **more
    )
