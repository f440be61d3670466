"""The browser that the tests of this folder share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients.browser.app import App, app
from tests.clients.browser.chromium import BrowserMissingError, Chromium
from tests.clients.service import Service
from tests.livekit_process import LiveKitProcess


@pytest_asyncio.fixture(scope="session")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    """Chromium, shared by all tests of this worker."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    try:
        await browser.__aenter__()
    except BrowserMissingError as error:
        pytest.fail(str(error), pytrace=False)
    yield browser
    await browser.__aexit__()


@pytest_asyncio.fixture
async def alice(chromium: Chromium, livekit: LiveKitProcess, sender: Service, room: str) -> AsyncIterator[App]:
    """A participant of the room, in Chromium; its companion is not attached yet."""
    async with app(chromium, livekit, sender, room, "alice") as joined:
        yield joined
