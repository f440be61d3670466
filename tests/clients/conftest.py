"""A participant for the tests of this folder, and who calls its companion."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.clients.service import Service, service
from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, participant


@pytest_asyncio.fixture
async def alice(livekit: LiveKitProcess, room: str) -> AsyncIterator[Joined]:
    """A participant of the room."""
    async with participant(livekit, room, "alice") as joined:
        yield joined


@pytest_asyncio.fixture
async def sender(livekit: LiveKitProcess) -> AsyncIterator[Service]:
    """Who calls companions in the place of the service."""
    async with service(livekit) as made:
        yield made
