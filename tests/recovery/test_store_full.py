"""The disk of the store is full for a while: nothing is half done, and nothing that was acknowledged is lost."""

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import Iterator

import grpc
import pytest

from tests.conftest import StartPermissions, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import camera, participant
from tests.publications import DEADLINE_S, ENDED, LIVE, TONE, pattern, publication, publish
from tests.refusals import refusal
from tests.restrictions import restrict, rule
from tests.streams import events
from tests.track_process import Client, TrackProcess
from tests.updates import update_of, video
from track.v1 import publication_pb2

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


@contextlib.contextmanager
def full_disk(track: TrackProcess) -> Iterator[None]:
    """No file of the server's grows beyond its store's log of writes, to which every write is appended."""
    most, limits = (track.directory / "track.sqlite3-wal").stat().st_size, (resource.RLIM_INFINITY,) * 2
    assert track.log_path.stat().st_size < most
    resource.prlimit(track.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(track.pid, resource.RLIMIT_FSIZE, limits)


async def listed(client: Client, room: str) -> list[publication_pb2.Publication]:
    """The room's publications."""
    request = publication_pb2.ListPublicationsRequest(room=room)
    return list((await client.ListPublications(request)).publications)


@pytest.mark.parametrize("request_id", ["", "again"])
async def test_a_publication_that_could_not_be_stored_does_not_exist_and_can_be_asked_for_again(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str, request_id: str
) -> None:
    track = await start_track(livekit)
    request = publication_pb2.PublishTrackRequest(
        room=room_name, spec=TONE, participant_identity="host", request_id=request_id
    )
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as client,
    ):
        with full_disk(track):
            refused = await refusal(client.PublishTrack(request, timeout=30))
            assert (refused.code, refused.reason) == UNAVAILABLE
            assert await listed(client, room_name) == []
        answer = await client.PublishTrack(request, timeout=30)
        assert answer.publication.state == LIVE
        assert [found.publication_id for found in await listed(client, room_name)] == [
            answer.publication.publication_id
        ]


async def test_an_end_that_could_not_be_stored_is_stored_when_it_is_asked_for_again(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    track = await start_track(livekit)
    async with existing_room(livekit, room_name):
        async with track.client("admin", room_admin=True, room=room_name) as client:
            live = await publish(client, room_name, TONE, "host")
            end = publication_pb2.UnpublishTrackRequest(room=room_name, publication_id=live.publication_id)
            async with events(client, room_name) as stream:
                await stream.until_shown(lambda shown: shown.sid == live.track_sid)
                with full_disk(track):
                    refused = await refusal(client.UnpublishTrack(end, timeout=30))
                    assert (refused.code, refused.reason) == UNAVAILABLE
                    # It ends all the same: nothing publishes on what the server takes for ended.
                    await stream.until("track_unpublished", lambda found: found.sid == live.track_sid)
            answer = await client.UnpublishTrack(end, timeout=30)
            assert answer.stage == publication_pb2.STAGE_OBSERVED
        await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            assert (await publication(client, room_name, live.publication_id)).state == ENDED


async def test_a_change_that_could_not_be_stored_is_not_made_and_can_be_asked_for_again(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    track = await start_track(livekit)
    async with existing_room(livekit, room_name):
        async with track.client("admin", room_admin=True, room=room_name) as client:
            live = await publish(client, room_name, pattern(), "host")
            change = update_of(live, video(max_bitrate_bps=123_000), "video.max_bitrate_bps")
            with full_disk(track):
                refused = await refusal(client.UpdatePublication(change, timeout=30))
                assert (refused.code, refused.reason) == UNAVAILABLE
                assert await publication(client, room_name, live.publication_id) == live
            # What comes next does not bring it along.
            named = update_of(live, publication_pb2.PublicationSpec(name="other"), "name")
            await client.UpdatePublication(named, timeout=30)
            found = await publication(client, room_name, live.publication_id)
            assert (found.spec.name, found.spec.video) == ("other", live.spec.video)
            answer = await client.UpdatePublication(change, timeout=30)
            assert answer.publication.spec.video.max_bitrate_bps == 123_000
        await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            found = await publication(client, room_name, live.publication_id)
            assert (found.spec.name, found.spec.video.max_bitrate_bps) == ("other", 123_000)


async def test_a_publication_whose_permission_is_gone_ends_also_where_that_cannot_be_stored(
    start_track: StartTrack, start_permissions: StartPermissions, livekit: LiveKitProcess, room_name: str
) -> None:
    allow = '[[rule]]\nname = "all"\nwhen = "true"\nlifetime = "5m"\n'
    deny = '[[rule]]\nname = "no"\neffect = "deny"\nwhen = \'check.permission == Permission.PERMISSION_PUBLISH\'\n'
    permissions = await start_permissions(allow)
    track = await start_track(livekit, permissions.track_settings)
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as client,
        events(client, room_name) as stream,
    ):
        live = await publish(client, room_name, TONE, "host")
        with full_disk(track):
            await permissions.rewrite(deny + allow)
            await stream.until("track_unpublished", lambda found: found.sid == live.track_sid)
        ended = await publication(client, room_name, live.publication_id)
        assert ended.end_cause == publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED


async def test_a_rule_whose_room_closed_meanwhile_is_forgotten_when_there_is_room_again(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        track.client("admin", room_admin=True, room=room_name) as client,
        existing_room(livekit, room_name),
        participant(livekit, room_name, "alice") as alice,
        camera(alice) as cam,
    ):
        await restrict(client, room_name, rule(nobody=True), track_sid=cam.sid)
        assert rules_stored(track) == 1
        with full_disk(track):
            await delete_room(livekit, room_name)
            await logged(track, "restrictions_not_kept", 3)
        async with asyncio.timeout(DEADLINE_S):
            while rules_stored(track):
                await asyncio.sleep(0.05)
    assert "never retrieved" not in track.log_path.read_text()


def rules_stored(track: TrackProcess) -> int:
    """How many rules the store has."""
    with contextlib.closing(sqlite3.connect(track.directory / "track.sqlite3")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM record WHERE kind = 'subscription_permission'").fetchone()
    return int(count)


async def logged(track: TrackProcess, event: str, times: int) -> None:
    """Waits until the server has logged the event so often."""
    async with asyncio.timeout(DEADLINE_S):
        while len([entry for entry in track.log() if entry["event"] == event]) < times:
            await asyncio.sleep(0.05)
