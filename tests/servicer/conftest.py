"""Rooms for the tests of this folder, and callers of TrackService."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.media.clips import write_clip
from tests.servicer.tls import Files
from tests.track_process import Client, TrackProcess


@pytest_asyncio.fixture
async def room(livekit: LiveKitProcess, room_name: str) -> AsyncIterator[str]:
    """A room of the shared LiveKit that exists; deleted with all that is in it."""
    async with existing_room(livekit, room_name):
        yield room_name


@pytest_asyncio.fixture
async def admin(track: TrackProcess, room_name: str) -> AsyncIterator[Client]:
    """A caller with `roomAdmin` of this test's room, whether that exists or not."""
    async with track.client("admin", room_admin=True, room=room_name) as client:
        yield client


@pytest.fixture(scope="session")
def clip(track: TrackProcess) -> str:
    """Two seconds of sound and picture in the media folder of the shared server; its URI."""
    return write_clip(Path(track.directory) / "media" / "clip.mkv", 2.0).name


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates of a server and its CAs, of this test alone."""
    return Files.made(tmp_path / "tls")
