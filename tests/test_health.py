"""Readiness goes on looking, whatever happens at a look."""

from pathlib import Path

import pytest

from tests.chained_server import until
from tests.livekit_process import LiveKitProcess
from track_server import health
from track_server.health import Condition, LiveKitAddress, Readiness
from track_server.keys import ApiKey, KeyRing
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.servicer.health import Health
from track_server.store.sqlite import SqliteStore


async def test_a_look_that_breaks_is_not_the_last(
    livekit: LiveKitProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0.05)
    looks = 0

    async def holds() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise RuntimeError("a fault of ours")
        return True

    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    address = LiveKitAddress(livekit.url, KeyRing(ApiKey(livekit.api_key, livekit.api_secret)))
    async with (
        SqliteStore(tmp_path / "store.sqlite3") as store,
        LiveKitApi(livekit.http_url, tokens) as api,
        Readiness(Health(), api, store, address, [Condition("odd", holds)]) as readiness,
    ):
        await until(lambda: looks > 3)
        assert readiness.reachable
