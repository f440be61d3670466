"""Layers for clients without a companion: an attribute that their apps can read."""

import asyncio

import orjson
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, participant
from tests.publications import DEADLINE_S
from tests.subscription_policies import delete_policy, policy, set_policy
from tests.subscriptions import subscription
from tests.track_process import Client
from track.v1 import subscription_pb2 as pb
from track.v1 import track_pb2

ADVISED = pb.LAYER_ENFORCEMENT_ADVISED


async def test_an_app_without_a_companion_reads_its_layers_in_an_attribute_until_there_is_nothing_to_say(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    low = pb.SubscriptionDefaults(settings=pb.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_LOW, priority=9))

    async def advice(bob: rtc.Room, *sids: str) -> dict[str, dict[str, object]]:
        """Once it is about those tracks."""
        async with asyncio.timeout(DEADLINE_S):
            while set(found := orjson.loads(bob.local_participant.attributes.get("track.layers") or "{}")) != set(sids):
                await asyncio.sleep(0.05)
        return dict(found)

    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob", can_update_own_metadata=True) as bob,
        camera(ann) as cam,
    ):
        await set_policy(admin, room, policy(defaults=low))
        found = await advice(bob, cam.sid)
        entry = found[cam.sid]
        assert (entry["enabled"], entry["priority"]) == (True, 9)
        shown = await subscription(admin, room, "bob", cam.sid, lambda now: now.enforcement != 0)
        assert shown.layer.terms
        async with camera(ann, "second") as second:
            await advice(bob, cam.sid, second.sid)
            await ann.local_participant.unpublish_track(second.sid)
        await advice(bob, cam.sid)
        # What somebody else wrote there does not stand.
        await bob.local_participant.set_attributes({"track.layers": "{}"})
        await advice(bob, cam.sid)
        low.settings.enabled = False
        low.settings.ClearField("quality")
        await set_policy(admin, room, policy(defaults=low))
        async with asyncio.timeout(DEADLINE_S):
            while (await advice(bob, cam.sid))[cam.sid]["enabled"] is not False:
                await asyncio.sleep(0.05)
        assert (await subscription(admin, room, "bob", cam.sid)).enforcement == ADVISED
        await delete_policy(admin, room)
        async with asyncio.timeout(DEADLINE_S):
            while "track.layers" in bob.local_participant.attributes:
                await asyncio.sleep(0.05)
