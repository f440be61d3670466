"""The policies that are kept: what is stored holds, and what was compiled is not compiled again."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from track.v1.event_pb2 import EventCause
from track.v1.subscription_pb2 import (
    DeleteSubscriptionPolicyRequest,
    SetSubscriptionPolicyRequest,
    SubscriptionPolicy,
    SubscriptionRule,
)
from track_server.errors import Draining
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.rooms import Rooms
from track_server.store.sqlite import SqliteStore
from track_server.subscription.policies import policies as module
from track_server.subscription.policies.condition import condition_of
from track_server.subscription.policies.policies import Policies
from track_server.subscription.policies.requests import PolicyRequests

CAUSE = EventCause(principal_identity="operator")


class Slow(SqliteStore):
    """Tells when it has written, and answers later."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written = asyncio.Event()
        self.answered = asyncio.Event()

    async def put(self, *args: Any, **fields: Any) -> int:
        revision = await super().put(*args, **fields)
        await self._answer()
        return revision

    async def delete(self, *args: Any) -> bool:
        found = await super().delete(*args)
        await self._answer()
        return found

    async def _answer(self) -> None:
        self.written.set()
        await self.answered.wait()


@pytest_asyncio.fixture
async def rooms() -> AsyncIterator[Rooms]:
    """None of which is watched."""
    tokens = TokenMint("key", "secret" * 6)
    async with (
        LiveKitApi("http://127.0.0.1:1", tokens) as api,
        Rooms("ws://127.0.0.1:1", api, tokens, linger_s=0.0, max_events=10, transport_timeout_s=1.0) as rooms,
    ):
        yield rooms


def request(*conditions: str, identity: str = "") -> SetSubscriptionPolicyRequest:
    rules = [SubscriptionRule(name=f"r{index}", condition=condition) for index, condition in enumerate(conditions)]
    return SetSubscriptionPolicyRequest(room="r", participant_identity=identity, policy=SubscriptionPolicy(rules=rules))


async def test_what_is_stored_comes_into_force_though_the_caller_is_gone(rooms: Rooms, tmp_path: Path) -> None:
    async with Slow(tmp_path / "store.sqlite3") as store:
        policies = Policies(store, 10)
        told: list[tuple[str, str]] = []
        policies.listen(lambda room, identity: told.append((room, identity)))
        async with PolicyRequests(policies, rooms) as requests:
            for begun in (
                lambda: requests.set(request("track.muted"), CAUSE),
                lambda: requests.delete(DeleteSubscriptionPolicyRequest(room="r"), CAUSE),
            ):
                told.clear()
                store.written.clear()
                store.answered.clear()
                call = asyncio.ensure_future(begun())
                await store.written.wait()
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
                assert not told
                store.answered.set()
                async with asyncio.timeout(20):
                    while not told:
                        await asyncio.sleep(0.01)
                kept = await store.get("subscription_policy", "r", "")
                assert (policies.find("r", "") is not None) is (kept is not None)
        with pytest.raises(Draining):
            await requests.set(request(), CAUSE)


async def test_a_change_of_the_rooms_rules_compiles_nobodys_own_anew(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand conditions take a second, in which nothing else is served."""
    compiled: Counter[str] = Counter()

    def counting(source: str, field: str) -> Any:
        compiled[source] += 1
        return condition_of(source, field)

    monkeypatch.setattr(module, "condition_of", counting)
    own = {identity: f'publisher.identity == "{identity}"' for identity in ("ann", "bob", "eve")}
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        policies = Policies(store, 10)
        async with PolicyRequests(policies, rooms) as requests:
            for identity, condition in own.items():
                await requests.set(request(condition, identity=identity), CAUSE)
            for condition in ("track.muted", "track.red"):
                await requests.set(request(condition), CAUSE)
                for identity in own:
                    assert policies.ruleset("r", identity) is policies.ruleset("r", identity)
            assert compiled == dict.fromkeys([*own.values(), "track.muted", "track.red"], 1)
            await requests.set(request("track.stereo", identity="ann"), CAUSE)
            changed = policies.ruleset("r", "ann")
            assert changed is not None
            assert changed.reads == {("track", "stereo"), ("track", "red")}
