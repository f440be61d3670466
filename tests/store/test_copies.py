"""Records that follow what is in memory: none stays behind once the store works again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.store.conftest import Backend, Clock
from track_server.store.copies import Copies, Copy
from track_server.store.records import Store, StoreError

KIND = "kind"


class Failing:
    """A store whose writes fail while ``broken``: all else is the real one."""

    def __init__(self, store: Store) -> None:
        self.broken = False
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, *arguments: Any, **options: Any) -> int:
        self._refuse()
        return await self._store.put(*arguments, **options)

    async def delete(self, *arguments: Any) -> bool:
        self._refuse()
        return await self._store.delete(*arguments)

    def _refuse(self) -> None:
        if self.broken:
            raise StoreError("the disk is full")


class Memory:
    """What a test has in memory, and its records."""

    def __init__(self, store: Store) -> None:
        self.store = Failing(store)
        self.truth: dict[str, Copy] = {}
        self.copies = Copies(self.store, KIND, self.truth.get)

    async def stored(self) -> dict[str, bytes]:
        return {record.key: record.body for record in await self.store.list(KIND)}

    @asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        self.store.broken = True
        yield
        self.store.broken = False


@pytest_asyncio.fixture
async def memory(store: Store) -> Memory:
    """Nothing is in it, and the store works."""
    return Memory(store)


async def test_a_record_becomes_what_is_in_memory_and_goes_with_it(memory: Memory, clock: Clock) -> None:
    memory.truth["a"] = Copy(b"1", clock.now + 5)
    await memory.copies.write("room", "a")
    [record] = await memory.store.list(KIND)
    assert (record.room, record.key, record.body, record.expire_time) == ("room", "a", b"1", clock.now + 5)
    del memory.truth["a"]
    await memory.copies.write("room", "a")
    assert await memory.stored() == {}


async def test_what_could_not_be_written_or_deleted_is_after_the_next_write(memory: Memory) -> None:
    for key in ("changed", "gone"):
        memory.truth[key] = Copy(b"1", None)
        await memory.copies.write("room", key)
    async with memory.broken():
        memory.truth["changed"] = Copy(b"2", None)
        del memory.truth["gone"]
        for key in ("changed", "gone"):
            with pytest.raises(StoreError):
                await memory.copies.write("room", key)
            assert memory.copies.behind(key)
    memory.truth["other"] = Copy(b"3", None)
    await memory.copies.write("elsewhere", "other")
    assert await memory.stored() == {"changed": b"2", "other": b"3"}
    assert not any(memory.copies.behind(key) for key in ("changed", "gone", "other"))


async def test_what_lags_is_written_after_the_next_write(memory: Memory) -> None:
    memory.truth["a"] = Copy(b"1", None)
    memory.copies.lag("room", "a")
    memory.truth["b"] = Copy(b"2", None)
    await memory.copies.write("room", "b")
    assert await memory.stored() == {"a": b"1", "b": b"2"}
    assert not memory.copies.behind("a")


async def test_a_change_while_a_record_is_written_is_not_taken_for_written(backend: Backend, clock: Clock) -> None:
    async with backend("main", clock) as store:
        memory = Memory(store)
        bodies = iter([b"1", b"2"])
        copies = Copies(memory.store, KIND, lambda key: Copy(next(bodies), None))
        copies.lag("room", "a")
        await copies._write("room", "a")
        assert copies.behind("a")
