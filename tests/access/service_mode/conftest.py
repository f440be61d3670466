"""A permission service, and ServiceAccess in front of it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.access.service_mode.service import Running, running
from tests.permission_peer import PermissionPeer


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[PermissionPeer]:
    """A permission service that allows everything."""
    async with PermissionPeer() as running_peer:
        yield running_peer


@pytest_asyncio.fixture
async def service(peer: PermissionPeer) -> AsyncIterator[Running]:
    """ServiceAccess in front of it."""
    async with running(peer) as access:
        yield access
