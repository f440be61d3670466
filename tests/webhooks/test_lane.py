"""One room's events on their way to one receiver, of which not everything goes well within this server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.webhooks.receiver import DEADLINE_S, Receiver, refuse, take
from track.v1 import event_pb2, webhook_pb2
from track_server.access.principal import anonymous
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.log import Message
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.selection import EventFilter, Selection
from track_server.rooms.standing import Standing
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore
from track_server.webhooks.courier import Courier, Places
from track_server.webhooks.deliveries import Deliveries
from track_server.webhooks.lane import Lane, Means
from track_server.webhooks.positions import Position, Positions
from track_server.webhooks.sender import Sender
from track_server.webhooks.subscription import Subscription
from track_server.webhooks.tallies import Tally
from track_server.webhooks.targets import Targets

_KEPT = 5
NEVER_S = 3600.0


@dataclass
class Parts:
    """What a lane works with. ``live``: a room that is watched, and keeps five messages."""

    api: LiveKitApi
    store: SqliteStore
    live: LiveRoom
    means: Means
    sender: Sender
    subscription: Subscription

    def lane(self, position: Position, begin: Message | None = None) -> Lane:
        """A lane of the subscription in the room."""
        courier = Courier(self.subscription, self.sender, Places(), Tally(self.store, "", self.subscription.id))
        return Lane(courier, self.live.name, position, self.means, begin=begin)

    def announce(self, count: int) -> None:
        """So many events."""
        for _ in range(count):
            event = event_pb2.RoomEvent(limit_exceeded=event_pb2.LimitExceeded(limit="any"))
            self.means.rooms.announce(self.live.name, event)


@contextlib.asynccontextmanager
async def parts(
    livekit: LiveKitProcess, receiver: Receiver, room: str, path: Path, selection: Selection | None = None
) -> AsyncIterator[Parts]:
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    message = webhook_pb2.WebhookSubscription(subscription_id="WHS_a", room=room, url=receiver.url)
    async with (
        existing_room(livekit, room),
        SqliteStore(path / "track.sqlite3") as store,
        LiveKitApi(livekit.http_url, tokens) as api,
        Rooms(livekit.url, api, tokens, linger_s=0.0, max_events=_KEPT, transport_timeout_s=10.0) as rooms,
        Sender(
            Targets(["http://127.0.0.1"], allow_private=True), tokens.sign, timeout_s=20.0, user_agent="tests"
        ) as sender,
        rooms.watch(room) as live,
    ):
        means = Means(rooms, Positions(store, kept_s=NEVER_S), NEVER_S, lambda outcome: None)
        yield Parts(api, store, live, means, sender, Subscription(message, anonymous(), selection or Selection()))


@contextlib.asynccontextmanager
async def running(lane: Lane) -> AsyncIterator[None]:
    task = asyncio.create_task(lane.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def pending(lane: Lane, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await lane.pending() != count:
            await asyncio.sleep(0.02)


async def test_what_the_log_lost_before_it_was_sent_does_not_go_on_waiting(
    livekit: LiveKitProcess, room_name: str, tmp_path: Path
) -> None:
    async with (
        Receiver(livekit, refuse(500)) as receiver,
        parts(livekit, receiver, room_name, tmp_path) as made,
        running(lane := made.lane(Position(made.live.log.text))),
    ):
        made.announce(3)
        await receiver.until(lambda: receiver.tried, "it was tried")
        await pending(lane, 3)
        made.announce(10 * _KEPT)
        receiver.answer = take
        await receiver.event("gap")
        await pending(lane, 0)
        assert receiver.kinds() == ["limit_exceeded", "gap"]
        made.announce(1)
        await receiver.until(lambda: len(receiver.taken) == 3, "it goes on")
        await pending(lane, 0)


async def test_a_filter_that_rests_when_a_room_begins_loses_nothing_of_it(
    livekit: LiveKitProcess, room_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("track_server.webhooks.lane._AGAIN_S", 0.02)
    seconds = chain([0.0, 60.0], repeat(60.0))
    rests_once = Selection(filter=EventFilter(lambda room, event: True, clock=lambda: next(seconds)))
    async with (
        Receiver(livekit) as receiver,
        parts(livekit, receiver, room_name, tmp_path, rests_once) as made,
    ):
        made.announce(1)
        made.announce(1)
        begin = made.live.log.at(made.live.log.end - 1)
        async with running(made.lane(Position(ended=True), begin)):
            await receiver.event("limit_exceeded")


async def test_a_subscription_ends_though_the_store_fails(
    livekit: LiveKitProcess, room_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*arguments: object) -> None:
        raise StoreError("the disk is gone")

    async with (
        Receiver(livekit) as receiver,
        parts(livekit, receiver, room_name, tmp_path) as made,
        Standing(made.means.rooms, made.api) as standing,
        Subscriptions(made.means.rooms, made.api, None) as listening,
        Deliveries(made.store, standing, listening, made.sender, made.means) as deliveries,
    ):
        await deliveries.begin(made.subscription, {room_name: Position(made.live.log.text)})
        made.announce(1)
        await receiver.until(lambda: len(receiver.taken) == 1, "it is sent")
        monkeypatch.setattr(Lane, "pending", fails)
        monkeypatch.setattr(made.store, "delete", fails)
        ended = await deliveries.end(made.subscription)
        assert ended.subscription_id == made.subscription.id
        assert not standing.wanted(room_name)
