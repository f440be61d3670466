"""What calls of TrackService need in the tests of this folder: certificates, a clip, a permission service."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.egresses import EgressCluster, egress_cluster
from tests.livekit_process import LiveKitProcess
from tests.media.clips import write_clip
from tests.permission_peer import PermissionPeer
from tests.servicer.tls import Files
from tests.track_process import Client, TrackProcess


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[PermissionPeer]:
    """A permission service that does what the test wants; it allows everything."""
    async with PermissionPeer() as running:
        yield running


@pytest.fixture(scope="session")
def clip(track: TrackProcess) -> str:
    """Two seconds of sound and picture in the media folder of the shared server; its URI."""
    return write_clip(Path(track.directory) / "media" / "clip.mkv", 2.0).name


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates of a server and its CAs, of this test alone."""
    return Files.made(tmp_path / "tls")


@pytest_asyncio.fixture(scope="module")
async def eager(livekit: LiveKitProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """TrackService without a cooldown."""
    directory = tmp_path_factory.mktemp("eager")
    async with TrackProcess(livekit, directory, {"TRACK_RESTART_COOLDOWN_SECONDS": "0"}) as server:
        yield server


@pytest_asyncio.fixture
async def restarter(eager: TrackProcess, room: str) -> AsyncIterator[Client]:
    """An admin of this test's room."""
    async with eager.client("admin", room_admin=True, room=room) as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def _egress_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EgressCluster]:
    async with egress_cluster(tmp_path_factory.mktemp("egress")) as running:
        yield running


@pytest_asyncio.fixture
async def cluster_with_egress(_egress_cluster: EgressCluster) -> EgressCluster:
    """A cluster with an Egress, shared by all tests of this worker: the Egress may be told what to do, not ended."""
    await _egress_cluster.worker.mode()
    return _egress_cluster
