"""Rooms for the tests of this folder, and callers."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.clients.service import Service, service
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import Joined, participant
from tests.track_process import Client, TrackProcess


@pytest_asyncio.fixture
async def room(livekit: LiveKitProcess, room_name: str) -> AsyncIterator[str]:
    """A room of the shared LiveKit that exists; deleted with all that is in it."""
    async with existing_room(livekit, room_name):
        yield room_name


@pytest_asyncio.fixture
async def admin(track: TrackProcess, room_name: str) -> AsyncIterator[Client]:
    """A caller with `roomAdmin` of this test's room."""
    async with track.client("admin", room_admin=True, room=room_name) as client:
        yield client


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
