"""The versions of LiveKit that the tests of this folder run against."""

import pytest

from tests.livekit_process import LiveKitProcess


@pytest.fixture(params=["livekit", "livekit_old"])
def server(request: pytest.FixtureRequest) -> LiveKitProcess:
    """Each version of LiveKit that we serve."""
    process: LiveKitProcess = request.getfixturevalue(request.param)
    return process
