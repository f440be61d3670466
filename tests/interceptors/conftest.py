"""Servers of the whole chain, and what a test has them do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.chained_server import API_KEY, API_SECRET, Harness, serving
from tests.interceptors.mutations import Effects
from track_server.access.tokens import TokenAuthenticator
from track_server.keys import ApiKey, KeyRing


@pytest_asyncio.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    """A server without authentication."""
    async with serving(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Harness]:
    """A server in mode `token`."""
    async with serving(tmp_path, authenticator=TokenAuthenticator(KeyRing(ApiKey(API_KEY, API_SECRET)))) as running:
        yield running


@pytest_asyncio.fixture
async def effects(harness: Harness) -> Effects:
    """What carries MuteTracks out, at the server without authentication."""
    made = Effects()
    harness.on("MuteTracks", made)
    return made
