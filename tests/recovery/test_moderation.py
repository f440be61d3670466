"""Moderation over kills and restarts of this server and of LiveKit."""

import asyncio
import contextlib
import json
import sqlite3
import time
from pathlib import Path

import pytest

from tests import moderation_calls as calls
from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.livekit_rooms import rooms as exists
from tests.moderation_calls import block, come_true, listed
from tests.participants import camera, microphone, participant
from tests.track_process import Client
from track.v1 import publication_pb2
from track_server.rooms.lives import RETURN_S

NO_WORKERS = {"TRACK_MEDIA_WORKERS": "0"}


async def _is(client: Client, room: str, sid: str, muted: bool) -> bool:
    return await calls.muted(client, room, sid) is muted


async def test_after_a_kill_blocks_hold_again_and_ends_that_were_missed_come_true(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, NO_WORKERS)
    grants = {"room_admin": True, "room": room}
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        mic, other = await microphone(alice), await microphone(alice, name="other")
        async with participant(livekit, room, "bob") as bob:
            bobs = await microphone(bob)
            async with track.client("admin", **grants) as admin:
                await listed(admin, room, mic.sid, other.sid, cam.sid, bobs.sid)
                (held,) = await block(admin, room, bobs.sid, reason="shouting")
                ends = time.time() + 3
                (short,) = await block(admin, room, mic.sid, expire_time=calls.soon(3))
                (timed,) = await calls.mute(admin, room, cam.sid, expire_time=calls.soon(3))
                assert held.block_id != short.block_id
                assert timed.stage == publication_pb2.STAGE_OBSERVED
            await come_true(lambda: bobs.muted and mic.muted)
            await track.kill()
            calls.unmute_self(bobs)
            await asyncio.sleep(max(0.0, ends + 0.2 - time.time()))
            await track.start()
            # Nobody asks for the room: the block alone has it watched.
            await come_true(lambda: bobs.muted)
            async with track.client("admin", **grants) as admin:
                (found,) = await calls.blocks(admin, room)
                assert (found.block_id, found.reason) == (held.block_id, "shouting")
                await come_true(lambda: _is(admin, room, cam.sid, False))
                assert await calls.muted(admin, room, mic.sid)
                await come_true(lambda: calls.muted(admin, room, bobs.sid))


async def test_a_block_of_a_participant_that_is_away_waits_for_it_over_a_kill(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, NO_WORKERS)
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        async with track.client("admin", room_admin=True, room=room) as admin:
            await listed(admin, room, mic.sid)
            await block(admin, room, mic.sid)
    await track.kill()
    await track.start()
    async with participant(livekit, room, "alice") as alice:
        back = await microphone(alice)
        await come_true(lambda: back.muted)


@pytest.mark.parametrize("away_s", [60, 3600])
async def test_another_room_of_the_name_after_a_long_time_has_no_blocks_and_after_a_short_one_it_is_the_same(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str, away_s: int
) -> None:
    track = await start_track(livekit, NO_WORKERS)
    grants = {"room_admin": True, "room": room_name}
    async with existing_room(livekit, room_name), participant(livekit, room_name, "alice") as alice:
        mic = await microphone(alice)
        async with track.client("admin", **grants) as admin:
            await listed(admin, room_name, mic.sid)
            await block(admin, room_name, mic.sid)
        await track.kill()
    _seen_earlier(track.directory / "track.sqlite3", away_s)
    async with existing_room(livekit, room_name), participant(livekit, room_name, "alice") as alice:
        back = await microphone(alice)
        await alice.announced(back.sid)
        await track.start()
        async with track.client("admin", **grants) as admin:
            if away_s < RETURN_S:
                await come_true(lambda: back.muted)
                return

            async def none() -> bool:
                return await calls.blocks(admin, room_name) == []

            await come_true(none)
            assert not back.muted


async def test_blocks_of_a_room_that_went_while_this_server_was_down_end_without_it(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(livekit, NO_WORKERS)
    grants = {"room_admin": True, "room": room_name}
    async with existing_room(livekit, room_name), participant(livekit, room_name, "alice") as alice:
        mic = await microphone(alice)
        async with track.client("admin", **grants) as admin:
            await listed(admin, room_name, mic.sid)
            await block(admin, room_name, mic.sid)
        await track.kill()
    _seen_earlier(track.directory / "track.sqlite3", 3600)
    await track.start()
    async with track.client("admin", **grants) as admin:

        async def none() -> bool:
            return await calls.blocks(admin, room_name) == []

        await come_true(none)


def _seen_earlier(store: Path, seconds: float) -> None:
    """Has a store say that its rooms were seen last so long ago."""
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        for key, body in connection.execute("SELECT room, body FROM record WHERE kind = 'moderated_room'").fetchall():
            sid, seen = json.loads(body)
            changed = json.dumps([sid, seen - seconds]).encode()
            connection.execute("UPDATE record SET body = ? WHERE kind = 'moderated_room' AND room = ?", (changed, key))


async def test_a_block_holds_over_a_restart_of_livekit(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, NO_WORKERS)
    async with track.client("admin", room_admin=True, room=room_name) as admin:
        async with participant(livekit, room_name, "alice") as alice:
            mic = await microphone(alice)
            await come_true(lambda: exists(livekit, room_name))
            await listed(admin, room_name, mic.sid)
            (held,) = await block(admin, room_name, mic.sid)
            await livekit.kill()
        await livekit.start()
        async with participant(livekit, room_name, "alice") as alice:
            back = await microphone(alice)
            await come_true(lambda: back.muted)
            (found,) = await calls.blocks(admin, room_name)
            assert found.block_id == held.block_id
