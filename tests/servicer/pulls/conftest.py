"""Pulled media comes out of the processes of a server that nobody else's sessions have worn."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.livekit_process import LiveKitProcess
from tests.track_process import TrackProcess


@pytest_asyncio.fixture(scope="session")
async def track(livekit: LiveKitProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """TrackService with its media worker, shared by the tests of this folder: never stop or kill this one."""
    directory = tmp_path_factory.mktemp("pulls")
    (directory / "media").mkdir()
    async with TrackProcess(livekit, directory, {"TRACK_MEDIA_DIR": str(directory / "media")}) as server:
        yield server
