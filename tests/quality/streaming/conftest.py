"""Quality streams over a room that is what the test says."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.quality.streaming.told import Stages


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stages]:
    """Streams, whose readers leave after the test."""
    result = Stages()
    async with result.streams:
        yield result
        for view in result.views:
            await view.aclose()
