"""Joins that take long, or that nobody waits for any more: what a media process hosts besides goes on."""

import asyncio
import os
from pathlib import Path

from tests.conftest import StartLiveKit, StartTrack
from tests.holding_proxy import HoldingProxy
from tests.livekit_rooms import existing_room, participants
from tests.participants import microphone, participant
from tests.publications import TONE, pattern, publication, publish, unpublish, until_listed
from tests.servicer.pulls import pulling as pull
from tests.servicer.pulls.pulling import DEADLINE_S, FRAMES
from tests.track_process import Client
from track.v1 import publication_pb2 as pb

# In a media process, rooms that were left go at once, and not whenever Python looks for garbage.
TIDY = """
import gc, pathlib, threading, time
def tidy():
    rounds = pathlib.Path(__file__).with_name("rounds")
    while True:
        time.sleep(0.1)
        gc.collect()
        with rounds.open("a") as file:
            file.write(".")
if "track_server.media.child" in pathlib.Path("/proc/self/cmdline").read_text():
    threading.Thread(target=tidy, daemon=True).start()
"""


async def test_a_process_hears_after_its_rooms_have_all_gone_while_one_is_being_joined(
    start_track: StartTrack, start_livekit: StartLiveKit, room_name: str, tmp_path: Path
) -> None:
    # Of its own: the workers of other servers would host some of it, past the proxy.
    livekit = await start_livekit()
    rounds = tmp_path / "rounds"
    rounds.touch()
    (tmp_path / "sitecustomize.py").write_text(TIDY)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    room, other = room_name, f"{room_name}-other"
    async with (
        existing_room(livekit, room),
        existing_room(livekit, other),
        HoldingProxy(livekit, "held") as proxy,
    ):
        track = await start_track(livekit, {"LIVEKIT_URL": proxy.url, "PYTHONPATH": path})
        async with (
            track.client("admin", room_admin=True, room=room) as admin,
            track.client("admin", room_admin=True, room=other) as elsewhere,
            participant(livekit, room, "alice") as alice,
        ):
            sound = await microphone(alice)
            await until_listed(admin, room, sound.sid)
            joining = asyncio.create_task(publish(elsewhere, other, pattern(), "held"))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await proxy.held.wait()
                    # Its session leaves with its track.
                    await unpublish(elsewhere, await publish(elsewhere, other, TONE, "host"))
                    while await participants(livekit, other):
                        await asyncio.sleep(0.02)
                    left = rounds.stat().st_size
                    while rounds.stat().st_size < left + 3:
                        await asyncio.sleep(0.02)
                async with pull.pulling(admin, room, track_sid=sound.sid, frames=FRAMES) as got:
                    await got.until(lambda so_far: len(so_far.media) >= 10)
                assert not track.logged("media_child_crashed")
            finally:
                joining.cancel()
                await asyncio.gather(joining, return_exceptions=True)


async def test_a_join_that_comes_about_after_its_end_is_left_and_takes_nothing_along(
    start_track: StartTrack, start_livekit: StartLiveKit, room_name: str
) -> None:
    livekit, room = await start_livekit(), room_name
    async with existing_room(livekit, room), HoldingProxy(livekit, "held") as proxy:
        track = await start_track(livekit, {"LIVEKIT_URL": proxy.url})
        async with track.client("admin", room_admin=True, room=room) as admin:
            stays = await publish(admin, room, TONE, "stays")
            joining = asyncio.create_task(publish(admin, room, pattern(), "held"))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await proxy.held.wait()
                    (asked,) = [each for each in await published(admin, room) if each != stays.publication_id]
                    await unpublish(admin, pb.Publication(room=room, publication_id=asked))
                    # Its session has ended: now the SDK, which knows nothing of it, gets in.
                    while len(track.logged("session_ended")) < 1:
                        await asyncio.sleep(0.02)
                    proxy.let_in()
                    while not track.logged("room_joined_in_vain"):
                        await asyncio.sleep(0.02)
                    while await participants(livekit, room) != {"stays"}:
                        await asyncio.sleep(0.02)
            finally:
                joining.cancel()
                await asyncio.gather(joining, return_exceptions=True)
            after = await publication(admin, room, stays.publication_id)
            assert (after.state, after.track_sid) == (stays.state, stays.track_sid)


async def published(client: Client, room: str) -> list[str]:
    """Ids of all publications of the room."""
    answer = await client.ListPublications(pb.ListPublicationsRequest(room=room))
    return [each.publication_id for each in answer.publications]
