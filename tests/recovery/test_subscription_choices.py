"""Manual choices over a kill of this server."""

import asyncio
import time

from tests.clients.apps import attached, public_key
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.moderation_calls import soon
from tests.participants import camera, participant
from tests.subscriptions import apply, down_tracks, listed, release, subscription, update
from track.v1 import subscription_pb2 as sub
from track.v1 import track_pb2

MANUAL = sub.SUBSCRIPTION_DECIDER_MANUAL
LOW = sub.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_LOW)


async def test_choices_hold_after_a_kill_and_those_whose_time_has_come_are_gone(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    grants = {"room_admin": True, "room": room}
    async with (
        participant(livekit, room, "alice") as alice,
        camera(alice) as lasting,
        camera(alice, "short") as short,
        camera(alice, "released") as released,
    ):
        async with participant(livekit, room, "viewer") as viewer, track.client("admin", **grants) as admin:
            for cam in (lasting, short, released):
                await listed(admin, room, cam.sid)
            async with attached(viewer, await public_key(admin)):
                ends = time.time() + 4
                results = await apply(
                    admin,
                    room,
                    update("viewer", lasting.sid, subscribe=False),
                    update("viewer", short.sid, settings=LOW, expire_time=soon(4)),
                    update("viewer", released.sid, settings=LOW),
                )
                assert not any(result.HasField("problem") for result in results), results
                await apply(admin, room, release("viewer", released.sid))
        await track.kill()
        await asyncio.sleep(max(0.0, ends + 0.2 - time.time()))
        await track.start()
        # The subscriber comes back, and nobody asks for the room: what was chosen holds for the new connection.
        async with participant(livekit, room, "viewer"), track.client("admin", **grants) as admin:
            await _until_received(livekit, room, {short.sid, released.sid})
            found = await subscription(admin, room, "viewer", lasting.sid, lambda found: found.HasField("desired"))
            assert (found.desired.decider, found.desired.subscribed) == (MANUAL, False)
            for cam in (short, released):
                found = await subscription(admin, room, "viewer", cam.sid)
                assert found.desired.decider != MANUAL


async def _until_received(livekit: LiveKitProcess, room: str, sids: set[str]) -> None:
    """Waits until the viewer receives those and no others."""
    async with asyncio.timeout(45):
        while await down_tracks(livekit, room) != {("viewer", sid) for sid in sids}:
            await asyncio.sleep(0.1)
