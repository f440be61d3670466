"""The key of the service: made once, and the same for all servers of a store."""

import asyncio
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from track_server.control.signing import PREFIX, ControlKey
from track_server.store.sqlite import SqliteStore


async def test_servers_of_one_store_have_one_key_also_after_a_restart(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        both = await asyncio.gather(ControlKey.of(store), ControlKey.of(store))
        first = both[0].public
        assert both[1].public == first
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        assert (await ControlKey.of(store)).public == first
    async with SqliteStore(tmp_path / "other.sqlite3") as store:
        assert (await ControlKey.of(store)).public.public_key != first.public_key


def test_a_signature_is_good_for_that_command_alone() -> None:
    key = ControlKey(bytes(32))
    public = Ed25519PublicKey.from_public_bytes(key.public.public_key)
    signature = key.sign("a command")
    public.verify(signature, PREFIX + b"a command")
    for other in (b"a command", PREFIX + b"another"):
        with pytest.raises(InvalidSignature):
            public.verify(signature, other)
