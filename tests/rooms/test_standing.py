"""Rooms that somebody wants are watched as long as they exist, in every life of theirs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from tests.conftest import StartLiveKit
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import participant
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing

# Longer than a watcher takes to find a LiveKit that was restarted, with its back-off.
DEADLINE_S = 45.0
NEVER_S = 3600.0


class CountedApi(LiveKitApi):
    """Tells how often rooms were asked for, and for how many."""

    asked: list[int]

    async def find_rooms(self, names):  # type: ignore[no-untyped-def]
        """As it is, counted."""
        self.asked.append(len(names))
        return await super().find_rooms(names)


@contextlib.asynccontextmanager
async def standing_in(
    server: LiveKitProcess, *, interval_s: float = 0.2
) -> AsyncIterator[tuple[Rooms, Standing, CountedApi]]:
    tokens = TokenMint(server.api_key, server.api_secret)
    livekit = CountedApi(server.http_url, tokens)
    livekit.asked = []
    async with (
        livekit,
        Rooms(server.url, livekit, tokens, linger_s=0.0, max_events=1000, transport_timeout_s=10.0) as rooms,
        Standing(rooms, livekit, interval_s=interval_s) as standing,
    ):
        yield rooms, standing, livekit


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def test_a_wanted_room_is_watched_once_it_exists_and_until_nobody_wants_it(
    livekit: LiveKitProcess, room_name: str
) -> None:
    async with standing_in(livekit) as (rooms, standing, _):
        standing.want("one", room_name)
        standing.want("one", room_name)
        standing.want("other", room_name)
        async with existing_room(livekit, room_name):
            await until(lambda: rooms.find(room_name), "the room is watched")
            standing.release("one", room_name)
            standing.release("one", room_name)
            assert rooms.find(room_name) is not None, "the other owner still wants it"
            standing.release("other", room_name)
            await until(lambda: not len(rooms), "nobody wants it")


async def test_each_life_of_a_wanted_room_is_watched_and_told(livekit: LiveKitProcess, room_name: str) -> None:
    async with standing_in(livekit) as (rooms, standing, _):
        lives: list[str] = []
        standing.listen(lambda room: lives.append(room.model.sid))
        standing.want("owner", room_name)
        for life in ("first", "second"):
            before = len(lives)
            async with existing_room(livekit, room_name):
                await until(partial(lives.__getitem__, slice(before, None)), f"the {life} life is told")
            await until(lambda: rooms.find(room_name) is None, "its end is seen")
        assert len(set(lives)) == 2


async def test_who_wants_all_rooms_gets_those_that_there_are_and_those_to_come(
    livekit: LiveKitProcess, room_name: str
) -> None:
    first, second = f"{room_name}-1", f"{room_name}-2"
    async with standing_in(livekit) as (rooms, standing, _), existing_room(livekit, first):
        standing.want_all("owner")
        await until(lambda: rooms.find(first), "the room that there was is watched")
        async with existing_room(livekit, second):
            await until(lambda: rooms.find(second), "the new one is watched")
            standing.want("other", second)
            standing.release_all("owner")
            await until(lambda: rooms.find(first) is None, "nobody wants it")
            assert rooms.find(second) is not None, "it is wanted by its name"


async def test_a_hint_finds_a_room_at_once_and_a_false_one_does_nothing(
    livekit: LiveKitProcess, room_name: str
) -> None:
    async with standing_in(livekit, interval_s=NEVER_S) as (rooms, standing, calls):
        standing.hint(room_name)
        standing.want("owner", room_name)
        await until(lambda: calls.asked == [1], "it was looked for once")
        standing.hint(room_name)
        await until(lambda: len(calls.asked) == 2, "the hint was looked at")
        assert rooms.find(room_name) is None
        async with existing_room(livekit, room_name):
            standing.hint(room_name)
            await until(lambda: rooms.find(room_name), "the room is watched")


async def test_livekit_is_asked_nothing_while_all_that_is_wanted_is_watched(
    livekit: LiveKitProcess, room_name: str
) -> None:
    names = [f"{room_name}-{number}" for number in range(3)]
    async with standing_in(livekit, interval_s=0.05) as (rooms, standing, calls), contextlib.AsyncExitStack() as stack:
        for name in names:
            standing.want("owner", name)
        await until(lambda: len(calls.asked) > 2, "rooms that are not there are looked for at the interval")
        assert calls.asked[0] == 3, "one call looks for all of them"
        for name in names:
            await stack.enter_async_context(existing_room(livekit, name))
        await until(lambda: all(map(rooms.find, names)), "all are watched")
        before = len(calls.asked)
        await asyncio.sleep(1.0)
        assert len(calls.asked) <= before + 1


async def test_wanted_rooms_are_watched_again_after_livekit_was_restarted(
    start_livekit: StartLiveKit, room_name: str
) -> None:
    server = await start_livekit()
    async with standing_in(server) as (rooms, standing, _):
        standing.want_all("owner")
        standing.want("other", room_name)
        async with participant(server, room_name, "alice"):
            await until(lambda: rooms.find(room_name), "the room is watched")
            await server.kill()
            await until(lambda: rooms.find(room_name) is None, "its loss is seen")
        await server.start()
        async with existing_room(server, room_name), existing_room(server, f"{room_name}-2"):
            await until(lambda: rooms.find(room_name), "the room is watched again")
            await until(lambda: rooms.find(f"{room_name}-2"), "rooms to come are found again")
        await delete_room(server, room_name)
