"""The record of what went through the chain."""

import asyncio

from tests.chained_server import Harness, bearer
from track.v1.audit_pb2 import AuditEntry
from track_server.audit.recorder import KIND

ADMIN = bearer("admin", roomAdmin=True, room="room")
VIEWER = bearer("viewer", roomJoin=True, room="room", canPublish=False, canPublishData=False)


async def rows(harness: Harness) -> list[AuditEntry]:
    """The record so far, oldest first."""
    entries = await harness.store.journal.newest(KIND, None, before=None, limit=10_000)
    return [AuditEntry.FromString(entry.body) for entry in reversed(entries)]


async def row(harness: Harness) -> AuditEntry:
    """The only row."""
    (found,) = await rows(harness)
    return found


async def some(harness: Harness, count: int) -> list[AuditEntry]:
    """The rows once there are as many: that of a caller who is gone comes after it went."""
    async with asyncio.timeout(45):
        while len(found := await rows(harness)) < count:
            await asyncio.sleep(0.01)
    return found


def metric(harness: Harness, name: str, **labels: str) -> float:
    """A metric of the server, 0 where nothing was counted."""
    return harness.registry.get_sample_value(name, labels) or 0.0
