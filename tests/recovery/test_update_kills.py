"""A worker, its child or the server dies while one track takes over from another: one track is left, as was asked."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from tests.conftest import StartLiveKit, StartTrack
from tests.publications import pattern
from tests.recovery.test_kills import kill_children, kill_worker, live_and_alone
from tests.recovery.test_recovery import LIVE, publish, until
from tests.track_process import Client, TrackProcess
from tests.updates import update_of, video
from track.v1 import publication_pb2, tracks_pb2

# Both tracks are there for two seconds where nobody sees who receives them.
BLIND = {"TRACK_LIVEKIT_DEBUG_URL": ""}
WANTED = 123_000


async def both_there(client: Client, known: publication_pb2.Publication) -> None:
    """Waits for the new track beside the old one."""
    await until(client, known, lambda found: len(found.lineage) == 2 and not found.lineage[0].HasField("end_time"))


@pytest.mark.parametrize("kill", [kill_worker, kill_children])
async def test_killed_while_both_tracks_are_there(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str, kill: Callable[[TrackProcess], None]
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, BLIND)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        known = await publish(client, room_name, pattern(320, 180, 10), "host")
        request = update_of(known, video(max_bitrate_bps=WANTED), "video.max_bitrate_bps")
        updating = asyncio.create_task(_answer(client, request))
        await both_there(client, known)
        kill(track)
        await updating
        back = await until(client, known, lambda found: found.state == LIVE and len(found.lineage) >= 3)
        assert back.spec.video.max_bitrate_bps == WANTED
        await live_and_alone(client, livekit, known)


async def test_the_server_is_killed_while_both_tracks_are_there(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, BLIND)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        known = await publish(client, room_name, pattern(320, 180, 10), "host")
        request = update_of(known, video(max_bitrate_bps=WANTED), "video.max_bitrate_bps")
        updating = asyncio.create_task(_answer(client, request))
        await both_there(client, known)
        await track.kill()
        await updating
    await track.start()
    async with track.client("admin", room_admin=True, room=room_name) as client:
        await live_and_alone(client, livekit, known)
        back = await until(client, known, lambda found: found.state == LIVE)
        assert back.spec.video.max_bitrate_bps == WANTED
        assert all(entry.HasField("end_time") for entry in back.lineage[:-1])


async def test_a_mute_of_the_new_track_holds_also_where_both_are_lost_before_the_old_one_is_gone(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, BLIND)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        known = await publish(client, room_name, pattern(320, 180, 10), "host")
        request = update_of(known, video(max_bitrate_bps=WANTED), "video.max_bitrate_bps")
        updating = asyncio.create_task(_answer(client, request))
        await both_there(client, known)
        both = await until(client, known, lambda found: len(found.lineage) == 2)
        wanted = tracks_pb2.MuteTracksRequest(room=room_name, tracks=[tracks_pb2.TrackRef(track_sid=both.track_sid)])
        muted = await client.MuteTracks(wanted, timeout=45)
        assert muted.results[0].stage == publication_pb2.STAGE_OBSERVED, muted
        await until(client, known, lambda found: found.muted or found.lineage[0].HasField("end_time"))
        kill_children(track)
        await updating
        back = await until(client, known, lambda found: found.state == LIVE and len(found.lineage) >= 3)
        assert back.muted
        await live_and_alone(client, livekit, known)
        assert (await until(client, known, lambda found: found.state == LIVE)).muted


async def _answer(client: Client, request: object) -> None:
    """Awaits it, however it ends."""
    try:
        await client.UpdatePublication(request, timeout=30)  # type: ignore[arg-type]
    except grpc.aio.AioRpcError:
        return
