"""The debug view is looked at for as long as somebody listens, in one call for all rooms."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Set

from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.rooms.test_watch import DEADLINE_S, EventReader, rooms_of
from track.v1 import event_pb2, publication_pb2
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView, DownTrack
from track_server.livekit.tokens import TokenMint
from track_server.rooms.causes import rule_cause
from track_server.rooms.rooms import Rooms
from track_server.rooms.selection import Selection
from track_server.rooms.stream import follow
from track_server.rooms.subscriptions import Subscriptions

OTHERS = Selection.of([event_pb2.EVENT_KIND_TRACK_PUBLISHED], "")


class Counted(DebugView):
    """Remembers what was asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.looks: list[Set[str]] = []

    async def look(self, rooms: Set[str]) -> dict[str, list[DownTrack]]:
        self.looks.append(rooms)
        return await super().look(rooms)


@contextlib.asynccontextmanager
async def looking(server: LiveKitProcess, rooms: Rooms, url: str) -> AsyncIterator[tuple[Subscriptions, Counted]]:
    tokens = TokenMint(server.api_key, server.api_secret)
    async with (
        LiveKitApi(server.http_url, tokens) as api,
        Counted(url) as view,
        Subscriptions(rooms, api, view, interval_s=0.02) as subscriptions,
    ):
        yield subscriptions, view


async def test_it_is_looked_at_while_somebody_listens_and_for_all_rooms_at_once(
    livekit: LiveKitProcess, room_name: str
) -> None:
    one, two = f"{room_name}-1", f"{room_name}-2"
    async with (
        rooms_of(livekit) as rooms,
        looking(livekit, rooms, livekit.debug_url) as (subscriptions, view),
        participant(livekit, one, "alice") as alice,
        participant(livekit, two, "carol"),
        rooms.watch(one) as live,
        rooms.watch(two),
    ):
        with subscriptions.wanted([one], OTHERS):
            assert not subscriptions.listening
            await subscriptions.ready(live)
        assert not view.looks
        subscriptions.want("receiver", [], Selection())
        await subscriptions.ready(live)
        assert view.looks[-1] == {one, two}
        reader = EventReader(follow(rooms, one))
        mic = await microphone(alice)
        async with participant(livekit, one, "bob"):
            event = await reader.change("subscription_changed")
            seen = event.subscription_changed
            assert (seen.participant_identity, seen.track_sid, seen.subscribed) == ("bob", mic.sid, True)
            assert seen.stage == publication_pb2.STAGE_OBSERVED
        subscriptions.release("receiver")
        assert not subscriptions.listening
        await reader.aclose()
        async with asyncio.timeout(DEADLINE_S):
            count = -1
            # One may have been under way.
            while count != len(view.looks):
                count = len(view.looks)
                await asyncio.sleep(0.2)


async def test_what_a_rule_asks_for_again_shows_as_the_doing_of_who_called_for_it(
    livekit: LiveKitProcess, room_name: str
) -> None:
    async with (
        rooms_of(livekit) as rooms,
        looking(livekit, rooms, livekit.debug_url) as (subscriptions, _),
        participant(livekit, room_name, "alice") as alice,
        participant(livekit, room_name, "bob", auto_subscribe=False),
        rooms.watch(room_name) as live,
    ):
        mic = await microphone(alice)
        await live.until(lambda: mic.sid in live.model.tracks and "bob" in live.model.participants, DEADLINE_S)
        reader = EventReader(follow(rooms, room_name))
        called = event_pb2.EventCause(principal_identity="carol")
        for cause in (called, rule_cause("subscription_policy")):
            await subscriptions.update(room_name, "bob", [mic.sid], subscribe=True, cause=cause)
        with subscriptions.wanted([room_name], Selection()):
            shown = await reader.until(
                lambda message: message.event.subscription_changed.stage == publication_pb2.STAGE_OBSERVED
            )
        assert shown.event.subscription_changed.subscribed
        assert shown.event.cause == called
        await reader.aclose()


async def test_a_view_that_does_not_answer_keeps_nobody_waiting_for_long(
    livekit: LiveKitProcess, room_name: str
) -> None:
    async with (
        rooms_of(livekit) as rooms,
        looking(livekit, rooms, "http://127.0.0.1:1") as (subscriptions, view),
        participant(livekit, room_name, "alice"),
        rooms.watch(room_name) as live,
    ):
        with subscriptions.wanted([room_name], Selection()):
            async with asyncio.timeout(DEADLINE_S):
                await subscriptions.ready(live)
            assert subscriptions.listening
        assert view.looks
