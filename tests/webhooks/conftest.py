"""A TrackService that may send webhooks to this machine, and who may have it do so."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.livekit_process import LiveKitProcess
from tests.track_process import Client, TrackProcess

SETTINGS = {
    "TRACK_WEBHOOK_HOSTS": "http://127.0.0.1",
    "TRACK_WEBHOOK_ALLOW_PRIVATE": "true",
    "TRACK_WEBHOOK_TIMEOUT_SECONDS": "5",
    "TRACK_MEDIA_WORKERS": "0",
}


@pytest_asyncio.fixture(scope="session")
async def hooked(livekit: LiveKitProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """Shared by the tests of this folder: never stop or kill this one."""
    async with TrackProcess(livekit, tmp_path_factory.mktemp("hooked"), SETTINGS) as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def mortal(livekit: LiveKitProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """Killed and started again by one test after the other: each has its own room."""
    async with TrackProcess(livekit, tmp_path_factory.mktemp("mortal"), SETTINGS) as server:
        yield server


@pytest_asyncio.fixture
async def admin(hooked: TrackProcess, room_name: str) -> AsyncIterator[Client]:
    """A caller with `roomAdmin` of this test's room, whether that exists or not."""
    async with hooked.client("admin", room_admin=True, room=room_name) as client:
        yield client
