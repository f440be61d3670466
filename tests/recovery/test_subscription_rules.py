"""Rules about subscriptions hold through the death of the server and of LiveKit, and nothing that they took is lost."""

import asyncio

import orjson
import pytest
from livekit import rtc

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import camera, microphone, participant
from tests.publications import DEADLINE_S
from tests.subscription_policies import UNSUBSCRIBE, delete_policy, policy, rule, set_policy
from tests.subscriptions import down_tracks
from track.v1 import subscription_pb2 as pb
from track.v1 import track_pb2

NO_SOUND = rule("no-sound", "track.source == TrackSource.TRACK_SOURCE_MICROPHONE", UNSUBSCRIBE)
LOW = pb.SubscriptionDefaults(settings=pb.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_LOW))


async def receives(livekit: LiveKitProcess, room: str, identity: str, sid: str, *, whether: bool) -> None:
    """Waits until LiveKit shows that the participant has the track, or has not."""
    async with asyncio.timeout(DEADLINE_S):
        while ((identity, sid) in await down_tracks(livekit, room)) is not whether:
            await asyncio.sleep(0.05)


async def advised(bob: rtc.Room, *sids: str) -> None:
    """Waits until the attribute is about those tracks."""
    async with asyncio.timeout(DEADLINE_S):
        while set(orjson.loads(bob.local_participant.attributes.get("track.layers") or "{}")) != set(sids):
            await asyncio.sleep(0.05)


@pytest.mark.deadline(180)
async def test_a_killed_server_holds_its_rules_again_and_what_it_took_is_given_back_by_the_next(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "ann") as ann,
        participant(livekit, room_name, "bob") as bob,
        camera(ann) as cam,
    ):
        mic = await microphone(ann)
        await receives(livekit, room_name, "bob", mic.sid, whether=True)
        async with track.client("admin", room_admin=True, room=room_name) as admin:
            await set_policy(admin, room_name, policy(NO_SOUND, defaults=LOW))
            await receives(livekit, room_name, "bob", mic.sid, whether=False)
            await advised(bob, cam.sid)
        await track.kill()
        # While nobody looks, the client has it again.
        bob.remote_participants["ann"].track_publications[mic.sid].set_subscribed(True)
        await receives(livekit, room_name, "bob", mic.sid, whether=True)
        await track.start()
        await receives(livekit, room_name, "bob", mic.sid, whether=False)
        async with track.client("admin", room_admin=True, room=room_name) as admin:
            # It is killed before it can give back what it took.
            livekit.pause()
            await delete_policy(admin, room_name)
            await track.kill()
            livekit.resume()
        await track.start()
        await receives(livekit, room_name, "bob", mic.sid, whether=True)
        await advised(bob)


@pytest.mark.deadline(180)
async def test_rules_hold_for_those_who_come_back_after_livekit_was_restarted(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as admin:
        await set_policy(admin, room_name, policy(NO_SOUND, defaults=LOW))
        async with (
            existing_room(livekit, room_name),
            participant(livekit, room_name, "ann") as ann,
            participant(livekit, room_name, "bob"),
        ):
            mic = await microphone(ann)
            await ann.announced(mic.sid)
            await receives(livekit, room_name, "bob", mic.sid, whether=False)
            await livekit.kill()
            await livekit.start()
        async with (
            existing_room(livekit, room_name),
            participant(livekit, room_name, "ann") as ann,
            participant(livekit, room_name, "bob") as bob,
            camera(ann) as cam,
        ):
            again = await microphone(ann)
            await ann.announced(again.sid)
            await advised(bob, cam.sid)
            await receives(livekit, room_name, "bob", cam.sid, whether=True)
            await receives(livekit, room_name, "bob", again.sid, whether=False)
            await delete_policy(admin, room_name)
            await receives(livekit, room_name, "bob", again.sid, whether=True)
