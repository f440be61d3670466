"""Rooms whose assessment is under test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.quality.studio import Studio


@pytest_asyncio.fixture
async def studio() -> AsyncIterator[Studio]:
    """A room that nobody follows."""
    result = Studio()
    async with result.assessing:
        yield result


@pytest_asyncio.fixture
async def followed(studio: Studio) -> Studio:
    """A room that is followed."""
    studio.assessing.follow("me", "room")
    return studio
