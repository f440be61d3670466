"""LiveKit is lost and comes back in the middle of things."""

import asyncio
import contextlib

import psutil

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_rooms import existing_room
from tests.recovery.test_kills import children, live_and_alone, logged
from tests.recovery.test_recovery import DATA, until
from track.v1 import publication_pb2


async def test_a_session_that_was_meant_for_the_room_before_the_restart_is_hosted_in_the_one_after_it(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        await logged(track, "media_worker_ready")
        for child in children(track):
            child.suspend()
        request = publication_pb2.PublishTrackRequest(room=room_name, participant_identity="host", spec=DATA)
        publishing = asyncio.ensure_future(client.PublishTrack(request, timeout=80))
        try:
            await logged(track, "session_placed")
            await livekit.kill()
            await livekit.start()
            async with existing_room(livekit, room_name):
                for child in children(track):
                    child.resume()
                answer = await publishing
                await live_and_alone(client, livekit, answer.publication)
                await until(client, answer.publication, lambda found: not found.HasField("problem"))
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            for child in children(track):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.resume()
