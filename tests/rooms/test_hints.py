"""Webhooks are hints: a room that does not show what they tell is looked at again, and shows what LiveKit has."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from livekit.protocol import egress, models, webhook

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import participant
from track.v1 import event_pb2
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.hints import Hint, Hints
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing

DEADLINE_S = 45.0
NEVER_S = 3600.0


@contextlib.asynccontextmanager
async def hints_of(livekit: LiveKitProcess) -> AsyncIterator[tuple[Rooms, Standing, Hints]]:
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    async with (
        LiveKitApi(livekit.http_url, tokens) as api,
        Rooms(livekit.url, api, tokens, linger_s=0.0, max_events=1000, transport_timeout_s=10.0) as rooms,
        Standing(rooms, api, interval_s=NEVER_S) as standing,
        Hints(rooms, standing, api, grace_s=0.1) as hints,
    ):
        yield rooms, standing, hints


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def test_a_wanted_room_is_found_by_any_webhook_about_it(livekit: LiveKitProcess, room_name: str) -> None:
    async with hints_of(livekit) as (rooms, standing, hints):
        standing.want("owner", room_name)
        async with existing_room(livekit, room_name):
            hints.take(webhook.WebhookEvent(event="track_published", room=models.Room(name=room_name)))
            await until(lambda: rooms.find(room_name), "the room is watched")


async def test_a_watch_that_misses_what_livekit_has_is_made_anew(livekit: LiveKitProcess, room_name: str) -> None:
    async with (
        hints_of(livekit) as (rooms, _, hints),
        participant(livekit, room_name, "alice"),
        rooms.watch(room_name) as live,
    ):
        assert await live.until(lambda: "alice" in live.model.participants, DEADLINE_S)
        alice = live.model.participants["alice"]
        # As if the signalling had lost an update.
        live.seen(live.model.sid, [], live.freshness().source)
        assert not live.model.participants
        before = live.log.cursor.epoch
        told = models.ParticipantInfo(sid=alice.sid, identity="alice")
        hints.take(webhook.WebhookEvent(event="participant_joined", room=models.Room(name=room_name), participant=told))
        assert await live.until(lambda: "alice" in live.model.participants, DEADLINE_S)
        assert live.log.cursor.epoch != before
        place = live.log.place_after(live.log.cursor)
        assert place is not None
        kinds = [found for at in range(live.log.first, place) if (found := live.log.at(at)) is not None]
        reasons = [found.snapshot.reason for found in kinds if found.snapshot is not None]
        assert reasons[-1] == event_pb2.SNAPSHOT_REASON_WATCHER_AWAY, "the gap is told"


async def test_listeners_hear_of_each_webhook_once_with_its_names(livekit: LiveKitProcess) -> None:
    heard: list[Hint] = []
    async with hints_of(livekit) as (_, _, hints):
        hints.listen(heard.append)
        ended = webhook.WebhookEvent(
            event="egress_ended", id="EV_1", egress_info=egress.EgressInfo(egress_id="EG_1", room_name="demo")
        )
        assert hints.take(ended)
        assert not hints.take(ended)
        assert heard == [Hint(event="egress_ended", room="demo", egress_id="EG_1")]
