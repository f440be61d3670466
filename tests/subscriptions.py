"""Subscriptions: requests that many tests make, and what LiveKit tells of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import DEADLINE_S
from tests.track_process import Client
from track.v1 import subscription_pb2, tracks_pb2


def update(identity: str, sid: str, subscribe: bool = True, **fields: Any) -> tracks_pb2.SubscriptionUpdate:
    """One subscription. ``fields``: `settings`, `expire_time`."""
    return tracks_pb2.SubscriptionUpdate(participant_identity=identity, track_sid=sid, subscribe=subscribe, **fields)


def release(identity: str, sid: str) -> tracks_pb2.SubscriptionUpdate:
    """What was chosen is given up."""
    return tracks_pb2.SubscriptionUpdate(participant_identity=identity, track_sid=sid, release=True)


async def subscription(
    client: Client,
    room: str,
    identity: str,
    sid: str,
    holds: Callable[[subscription_pb2.Subscription], bool] = lambda _: True,
) -> subscription_pb2.Subscription:
    """ListSubscriptions of one pair, once it is listed and that holds of it."""
    request = subscription_pb2.ListSubscriptionsRequest(room=room, participant_identity=identity, track_sid=sid)
    found: list[subscription_pb2.Subscription] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (found and holds(found[0])):
                found = list((await client.ListSubscriptions(request)).subscriptions)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise AssertionError(f"it is still {found}") from error
    return found[0]


async def apply(
    client: Client, room: str, *updates: tracks_pb2.SubscriptionUpdate
) -> list[tracks_pb2.SubscriptionResult]:
    """UpdateSubscriptions."""
    request = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=updates)
    return list((await client.UpdateSubscriptions(request, timeout=DEADLINE_S)).results)


async def down_tracks(livekit: LiveKitProcess, room: str) -> set[tuple[str, str]]:
    """Who receives what, as LiveKit itself shows it: (subscriber, track SID), hidden subscribers left out."""
    found = set()
    for entry in await livekit.debug_rooms():
        if entry["Name"] != room:
            continue
        identities = {who["ID"]: name for name, who in entry["Participants"].items()}
        for who in entry["Participants"].values():
            for sid, up in who["UpTrackManager"]["PublishedTracks"].items():
                found |= {(identities.get(down["SubscriberID"], ""), sid) for down in up.get("DownTracks") or []}
    # A copy may outlive its subscriber by a moment.
    return {(name, sid) for name, sid in found if name and not name.startswith("track-watcher-")}


@contextlib.asynccontextmanager
async def subscribers(
    livekit: LiveKitProcess, room: str, *identities: str, **grants: Any
) -> AsyncIterator[list[rtc.Room]]:
    """Participants that have just joined, and subscribe to nothing by themselves."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(participant(livekit, room, identity, auto_subscribe=False, **grants))
            for identity in identities
        ]


async def listed(client: Client, room: str, sid: str) -> None:
    """Waits until the room shows the track."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            if sid in [found.sid for found in answer.tracks]:
                return
            await asyncio.sleep(0.02)
