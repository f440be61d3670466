"""The backends that the suite runs against: another one joins by adding its factory to `BACKENDS`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from track_server.store.records import Store
from track_server.store.sqlite import SqliteStore


class Clock:
    """Seconds since 1970 that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


# Each opens the store of the given name with the given clock; the same name again is the same data.
Backend = Callable[[str, Clock], AbstractAsyncContextManager[Store]]


def _sqlite(directory: Path) -> Backend:
    return lambda name, clock: SqliteStore(directory / f"{name}.sqlite3", clock=clock)


BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": _sqlite}


@pytest.fixture
def clock() -> Clock:
    """The clock of the store."""
    return Clock()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Opens stores of the backend under test."""
    return BACKENDS[request.param](tmp_path)


@pytest_asyncio.fixture
async def store(backend: Backend, clock: Clock) -> AsyncIterator[Store]:
    """An open, empty store of the backend under test."""
    async with asyncio.timeout(45), backend("main", clock) as opened:
        yield opened
