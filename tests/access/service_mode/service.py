"""ServiceAccess in front of a permission service that does what the test wants, over a real connection."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.permission_peer import PermissionPeer
from track.v1.access_pb2 import Permission
from track.v1.track_pb2 import TrackType
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.principal import Grants, Principal
from track_server.access.question import Question, Touch
from track_server.access.service_mode.access import Keeping, ServiceAccess
from track_server.config import Settings
from track_server.errors import TrackError
from track_server.permission_client.client import PermissionClient
from track_server.permission_client.connection import Connection

READ = Permission.PERMISSION_READ_TRACKS
MUTE = Permission.PERMISSION_MUTE
VIDEO = TrackType.TRACK_TYPE_VIDEO
PUBLISH = Permission.PERMISSION_PUBLISH
ALICE = Principal("alice", Grants(room="a", room_join=True, can_publish=True))
SERVICE = Principal("batch", Grants(room_list=True))
TIMEOUT_S = 5.0


@dataclass
class Running:
    """A ServiceAccess with its clock in the test's hand."""

    access: ServiceAccess
    peer: PermissionPeer
    touches: list[Touch] = field(default_factory=list)
    now: float = 1000.0
    left: float | None = None

    async def ask(self, question: Question, principal: Principal = ALICE) -> Bounds:
        """`require`; of the room as such `admit`."""
        if question.participant_identity:
            return await self.access.require(principal, question)
        await self.access.admit(principal, question.permission, question.room)
        return UNBOUNDED

    async def fails(self, question: Question, principal: Principal = ALICE) -> TrackError:
        """`ask`, which must raise."""
        with pytest.raises(TrackError) as raised:
            await self.ask(question, principal)
        return raised.value


async def until(condition: Callable[[], Any]) -> None:
    """Waits for it."""
    async with asyncio.timeout(45):
        while not condition():
            await asyncio.sleep(0.01)


def settings(address: str, **overrides: Any) -> Settings:
    """Those of mode service."""
    values = {
        "livekit_url": "ws://127.0.0.1:1",
        "livekit_api_key": "key",
        "livekit_api_secret": "secret",
        "auth_mode": "service",
        "permission_address": address,
        **overrides,
    }
    return Settings.load(values)


@asynccontextmanager
async def running(
    peer: PermissionPeer,
    *,
    entries: int = 1000,
    stale_s: float = 30,
    timeout_s: float = TIMEOUT_S,
    connected: bool = True,
    **overrides: Any,
) -> AsyncIterator[Running]:
    """ServiceAccess, connected to the peer; nothing that it does may fail unheard."""
    async with Connection(settings(peer.address, **overrides)) as connection:
        found: list[Running] = []
        access = ServiceAccess(
            PermissionClient(connection, timeout_s=timeout_s),
            Keeping(entries, 300, stale_s),
            on_change=lambda touch: found[0].touches.append(touch),
            time_left=lambda: found[0].left,
            request_id=lambda: "call-1",
            clock=lambda: found[0].now,
        )
        found.append(Running(access, peer))
        async with access:
            if connected:
                await until(lambda: access.connected)
            yield found[0]
        await access.aclose()
    await connection.aclose()
    gc.collect()


ROOM = Question(READ, "a")
