"""Secrets in the store: made once, the same for all who ask."""

import asyncio
import secrets

from track_server.store.records import Store
from track_server.store.secrets import kept_secret


async def ask(store: Store, key: str = "key") -> bytes:
    return await kept_secret(store, "kind", key, lambda: secrets.token_bytes(32))


async def test_of_many_who_ask_at_once_all_get_the_one_that_was_kept(store: Store) -> None:
    found = await asyncio.gather(*(ask(store) for _ in range(20)))
    assert len(set(found)) == 1
    assert await ask(store) == found[0]


async def test_each_key_has_its_own(store: Store) -> None:
    assert await ask(store, "one") != await ask(store, "other")
