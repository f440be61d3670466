"""What was taken away is known after a restart, and to the connection that it was taken from alone."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore
from track_server.subscription.controller.takings import Taken, Takings


def unsubscribing(*sids: str) -> Taken:
    return Taken("PA_1", unsubscribed=frozenset(sids))


async def take(takings: Takings, *sids: str, sid: str = "PA_1") -> None:
    await takings.change("room", "ann", sid, lambda taken: replace(taken, unsubscribed=frozenset(sids)))


async def test_what_was_taken_is_there_after_a_restart_and_gone_once_it_is_given_back(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        takings = Takings(store)
        await take(takings, "TR_1", "TR_2")
        again = Takings(store)
        await again.load()
        assert again.of("room", "ann", "PA_1") == unsubscribing("TR_1", "TR_2")
        assert list(again.rooms()) == ["room"]
        await take(again, "TR_2")
        assert again.of("room", "ann", "PA_1") == unsubscribing("TR_2")
        await take(again)
        assert not again.concerns("room")
        assert await store.list("subscription_taken") == []


async def test_another_connection_is_owed_nothing(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        takings = Takings(store)
        await take(takings, "TR_1")
        assert not takings.of("room", "ann", "PA_2")
        await take(takings, "TR_2", sid="PA_2")
        assert not takings.of("room", "ann", "PA_1")
        assert takings.of("room", "ann", "PA_2").unsubscribed == {"TR_2"}


async def test_a_connection_that_is_over_takes_nothing_from_the_one_after_it(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        takings = Takings(store)
        await take(takings, "TR_1")
        # The new one is being written while the old one is let go of.
        await asyncio.gather(take(takings, "TR_2", sid="PA_2"), takings.drop("room", "ann", "PA_1"))
        assert takings.of("room", "ann", "PA_2").unsubscribed == {"TR_2"}
        assert len(await store.list("subscription_taken")) == 1
        await takings.drop("room", "ann", "PA_2")
        assert not takings.concerns("room")


async def test_a_server_that_lost_the_room_overwrites_nothing_of_the_one_that_has_it(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        late, now = Takings(store), Takings(store)
        await take(late, "TR_1")
        await now.reload("room")
        await take(now, "TR_1", "TR_2")
        with pytest.raises(StoreError):
            await take(late, "TR_1", "TR_3")
        await late.reload("room")
        assert late.of("room", "ann", "PA_1") == unsubscribing("TR_1", "TR_2")


async def test_a_room_that_is_gone_owes_nothing(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "store.sqlite3") as store:
        takings = Takings(store)
        await take(takings, "TR_1")
        await takings.forget("room")
        assert not takings.concerns("room")
        assert await store.list("subscription_taken") == []
