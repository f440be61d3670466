"""A media worker for the tests of this folder, and the server's end of its sessions."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.livekit_process import LiveKitProcess
from tests.media.peer import MediaPeer
from track_server.media.settings import MediaSettings
from track_server.media.worker import MediaWorker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def importable() -> Iterator[None]:
    """Child processes find the code where it is tested, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "generated")]))
        yield


@pytest.fixture(scope="session")
def media_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The media folder of the shared worker."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def settings(livekit: LiveKitProcess, media_dir: Path) -> MediaSettings:
    """Settings of the shared worker; its agent name is its own."""
    return MediaSettings(
        url=livekit.url,
        api_key=livekit.api_key,
        api_secret=livekit.api_secret,
        agent_name=f"media-{uuid.uuid4().hex[:8]}",
        media_dir=media_dir,
        max_sessions=8,
        sessions_per_child=16,
        orphan_timeout_s=20.0,
    )


@pytest_asyncio.fixture(scope="session")
async def worker(settings: MediaSettings, importable: None) -> AsyncIterator[MediaWorker]:
    """A worker shared by the tests of a process: do not harm it or its children."""
    async with MediaWorker(settings) as worker:
        await worker.registered()
        yield worker


@pytest_asyncio.fixture
async def peer(livekit: LiveKitProcess) -> AsyncIterator[MediaPeer]:
    """The server's end."""
    async with MediaPeer(livekit) as peer:
        yield peer
