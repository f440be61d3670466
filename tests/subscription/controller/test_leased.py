"""Of two servers on one store one acts for a room, and the other takes over where it ends or dies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest_asyncio
from pydantic import SecretStr

from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.publications import DEADLINE_S
from tests.subscription_policies import UNSUBSCRIBE, policy, rule
from tests.subscriptions import down_tracks
from track_server.composition.foundation import Foundation, founded
from track_server.config import Settings
from track_server.private_tracks.restrictions import Restrictions
from track_server.rooms.room import LiveRoom
from track_server.store.leases import Leases
from track_server.subscription.controller.asking import Asking
from track_server.subscription.controller.claims import Claims
from track_server.subscription.controller.controllers import Controllers
from track_server.subscription.controller.limits import Limits
from track_server.subscription.controller.means import Counts, Means
from track_server.subscription.controller.takings import Takings
from track_server.subscription.policies.policies import Policies


def nothing() -> Any:
    """What concerns no room: focuses, choices, what clients report."""
    return SimpleNamespace(
        listen=lambda _: None, concerns=lambda _: False, rooms=list,
        view=lambda *_: None, of=lambda *_: None, received=lambda *_: {}, has_companion=lambda *_: False,
    )  # fmt: skip


class Attendance:
    """Which rooms' companions are to report to a server."""

    def __init__(self) -> None:
        self.followed: set[str] = set()

    def follow(self, _: object, live: LiveRoom) -> None:
        self.followed.add(live.name)

    def unfollow(self, _: object, room: str, *, dismiss: bool) -> None:
        assert dismiss or room not in self.followed
        self.followed.discard(room)


class Server:
    """The controllers of one server, in front of the store and the LiveKit that all have."""

    def __init__(self, name: str, ground: Foundation, policies: Policies, asking: Asking, restrictions: Any) -> None:
        self.takings = Takings(ground.store)
        self.leases = Leases(ground.store, name)
        self.attendance = Attendance()
        means = Means(
            rooms=ground.rooms,
            standing=ground.standing,
            api=ground.api,
            subscriptions=ground.subscriptions,
            asking=asking,
            claims=Claims(),
            client_layers=nothing(),
            policies=policies,
            focuses=nothing(),
            choices=nothing(),
            states=nothing(),
            attendance=cast(Any, self.attendance),
            restrictions=restrictions,
            limits=Limits(),
            takings=self.takings,
            leases=self.leases,
            recorder=nothing(),
            counts=Counts(lambda _: None, lambda: None),
        )
        self.controllers = Controllers(means)
        ground.rooms.listen(self.controllers.happened)
        ground.standing.listen(self.controllers.watched)
        ground.subscriptions.look_along(self.controllers.looked)


@pytest_asyncio.fixture
async def ground(livekit: LiveKitProcess, tmp_path: Path) -> AsyncIterator[Foundation]:
    """What both servers have."""
    settings = Settings(
        livekit_url=livekit.url,
        livekit_api_key=livekit.api_key,
        livekit_api_secret=SecretStr(livekit.api_secret),
        livekit_debug_url=livekit.debug_url,
        store=tmp_path / "store.sqlite3",
    )
    async with founded(settings) as made:
        yield made


async def receives(livekit: LiveKitProcess, room: str, sid: str, *, whether: bool) -> None:
    """Waits until LiveKit shows that Bob has the track, or has not."""
    async with asyncio.timeout(DEADLINE_S):
        while (("bob", sid) in await down_tracks(livekit, room)) is not whether:
            await asyncio.sleep(0.05)


async def test_one_acts_and_the_other_takes_over_with_all_that_is_owed(
    ground: Foundation, livekit: LiveKitProcess, room: str
) -> None:
    policies = Policies(ground.store, 100)
    async with (
        Asking(ground.subscriptions, lambda _, __: None) as asking,
        Restrictions(ground.store) as restrictions,
        contextlib.AsyncExitStack() as stack,
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob"),
    ):
        mic = await microphone(ann)
        await receives(livekit, room, mic.sid, whether=True)
        one, two = (Server(name, ground, policies, asking, restrictions) for name in ("one", "two"))
        for server in (one, two):
            await stack.enter_async_context(server.controllers)
        wanted = policy(rule("none", "", UNSUBSCRIBE), room=room)
        await policies.set(wanted, "tester", "", validate_only=False)
        await receives(livekit, room, mic.sid, whether=False)
        acting, idle = (one, two) if one.takings.concerns(room) else (two, one)
        assert acting.controllers.state(room, "bob", mic.sid) is not None
        # Who has not the lease decides nothing, and took nothing.
        assert idle.controllers.state(room, "bob", mic.sid) is None
        assert not idle.takings.concerns(room)
        # A companion reports to one server.
        assert (acting.attendance.followed, idle.attendance.followed) == ({room}, set())
        await acting.controllers.aclose()
        async with asyncio.timeout(DEADLINE_S):
            while idle.controllers.state(room, "bob", mic.sid) is None:
                await asyncio.sleep(0.05)
        assert (acting.attendance.followed, idle.attendance.followed) == (set(), {room})
        await policies.delete(room, "", "", validate_only=False)
        await receives(livekit, room, mic.sid, whether=True)
