"""A page that is loaded anew gets its subscriptions and its layers back, as the rules and the choices say."""

import asyncio

from tests.clients.apps import public_key
from tests.clients.browser.app import DEADLINE_S, App
from tests.clients.browser.test_receiving import hosted, width_is
from tests.livekit_process import LiveKitProcess
from tests.publications import TONE, publish
from tests.subscription_policies import UNSUBSCRIBE, delete_policy, policy, rule, set_policy
from tests.subscriptions import apply, down_tracks, subscription, update
from tests.track_process import Client
from track.v1 import subscription_pb2 as pb
from track.v1 import track_pb2

ENFORCED = pb.LAYER_ENFORCEMENT_ENFORCED
LOW, MEDIUM = track_pb2.VIDEO_QUALITY_LOW, track_pb2.VIDEO_QUALITY_MEDIUM


async def test_a_page_that_is_loaded_anew_gets_its_state_back_and_all_is_released_with_the_policy(
    admin: Client, alice: App, livekit: LiveKitProcess, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    tone = await publish(admin, room, TONE)
    key = await public_key(admin)
    no_sound = rule("no-sound", "track.type == TrackType.TRACK_TYPE_AUDIO", UNSUBSCRIBE)
    low = pb.SubscriptionDefaults(settings=pb.SubscriptionSettings(quality=LOW))

    async def receives(*sids: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while {got for who, got in await down_tracks(livekit, room) if who == "alice"} != set(sids):
                await asyncio.sleep(0.1)

    async def shown(width: int) -> None:
        await alice.page.call("style", "width: 1280px; height: 720px")
        await alice.until("videos", holds=width_is(width))
        await subscription(admin, room, "alice", sid, lambda found: found.enforcement == ENFORCED)

    await set_policy(admin, room, policy(no_sound, defaults=low))
    await alice.attach(key)
    await receives(sid)
    await shown(320)
    await alice.page.reload()
    await alice.join()
    await alice.attach(key)
    await receives(sid)
    await shown(320)
    # A choice stands in the place of the rule, over a reload as well.
    settings = pb.SubscriptionSettings(quality=MEDIUM)
    await apply(admin, room, update("alice", sid, settings=settings))
    await shown(640)
    await alice.page.reload()
    await alice.join()
    await alice.attach(key)
    await shown(640)
    await receives(sid)
    await delete_policy(admin, room)
    await receives(sid, tone.track_sid)
