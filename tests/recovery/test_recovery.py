"""What was acknowledged survives the death of any part: media worker, server, LiveKit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import psutil
import pytest

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.media.viewer import viewer
from tests.track_process import Client
from track.v1 import event_pb2, publication_pb2, tracks_pb2

LIVE = publication_pb2.PUBLICATION_STATE_LIVE
ENDED = publication_pb2.PUBLICATION_STATE_ENDED
DEADLINE_S = 40.0

TONE = publication_pb2.PublicationSpec(tone=publication_pb2.ToneInput(frequency_hz=1000, level_dbfs=-10))
DATA = publication_pb2.PublicationSpec(data=publication_pb2.DataInput(frames_per_second=20))


async def publish(client: Client, room: str, spec: publication_pb2.PublicationSpec, identity: str) -> Any:
    """Publishes, and requires that it was seen in the room."""
    request = publication_pb2.PublishTrackRequest(room=room, participant_identity=identity, create_room=True, spec=spec)
    answer = await client.PublishTrack(request, timeout=45)
    assert answer.stage == publication_pb2.STAGE_OBSERVED, answer
    return answer.publication


async def until(client: Client, publication: Any, condition: Callable[[Any], bool]) -> publication_pb2.Publication:
    """Asks for the publication until ``condition`` holds of it."""
    request = publication_pb2.GetPublicationRequest(room=publication.room, publication_id=publication.publication_id)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = (await client.GetPublication(request)).publication
            if condition(found):
                return found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def events(client: Client, room: str) -> AsyncIterator[list[event_pb2.WatchEventsResponse]]:
    """The room's event stream, read in the background into a list."""
    got: list[event_pb2.WatchEventsResponse] = []

    async def read() -> None:
        stream = client.WatchEvents(event_pb2.WatchEventsRequest(room=room))
        while (message := await stream.read()) is not grpc.aio.EOF:
            assert isinstance(message, event_pb2.WatchEventsResponse)
            got.append(message)

    task = asyncio.create_task(read())
    try:
        yield got
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def come(got: list[event_pb2.WatchEventsResponse], condition: Callable[[Any], bool]) -> Any:
    """Waits for a message of the stream."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for message in got:
                if condition(message):
                    return message
            await asyncio.sleep(0.02)


async def test_a_killed_worker_brings_every_publication_back(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    # A LiveKit of its own: jobs go to any worker that is registered.
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        tone = await publish(client, room_name, TONE, "host")
        data = await publish(client, room_name, DATA, "host")
        muted = tracks_pb2.MuteTracksRequest(room=room_name, tracks=[tracks_pb2.TrackRef(track_sid=tone.track_sid)])
        await client.MuteTracks(muted, timeout=DEADLINE_S)
        worker = track.worker
        children = worker.children(recursive=True)
        worker.kill()
        for before in (tone, data):
            back = await until(client, before, lambda found: found.state == LIVE and len(found.lineage) == 2)
            assert back.publication_id == before.publication_id
            assert back.track_sid != before.track_sid
            assert back.lineage[0].track_sid == before.track_sid
            assert back.lineage[0].HasField("end_time")
        again = await until(client, tone, lambda found: found.muted)
        listed = (await client.ListTracks(tracks_pb2.ListTracksRequest(room=room_name))).tracks
        assert {found.sid for found in listed} == {again.track_sid, (await until(client, data, bool)).track_sid}
        assert next(found for found in listed if found.sid == again.track_sid).muted
        _, alive = psutil.wait_procs(children, timeout=45)
        assert not alive, "children of the killed worker live on"


async def test_media_flow_again_after_a_child_was_killed(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    # A LiveKit of its own: jobs go to any worker that is registered.
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        tone = await publish(client, room_name, TONE, "host")
        for child in track.worker.children():
            child.kill()
        back = await until(client, tone, lambda found: found.state == LIVE and len(found.lineage) == 2)
        async with viewer(livekit, room_name) as seen:
            sound = await seen.sound(back.track_sid, 0.2)
            assert abs(sound).max() > 0.1


async def test_a_killed_server_finds_its_publications_again(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    # A LiveKit of its own: jobs go to any worker that is registered.
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        tone = await publish(client, room_name, TONE, "host")
        ended = await publish(client, room_name, DATA, "other")
        await client.UnpublishTrack(
            publication_pb2.UnpublishTrackRequest(room=room_name, publication_id=ended.publication_id), timeout=10
        )
    worker = track.worker
    await track.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, [worker], 30)
    assert not alive, "the media worker outlives its server"
    await track.start()
    async with track.client("admin", room_admin=True, room=room_name) as client:
        back = await until(client, tone, lambda found: found.state == LIVE and found.track_sid != tone.track_sid)
        assert back.lineage[0].track_sid == tone.track_sid
        assert (await until(client, ended, bool)).state == ENDED


async def test_a_restart_of_livekit_with_a_stream_open_brings_publications_back(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        tone = await publish(client, room_name, TONE, "host")
        async with events(client, room_name) as got:
            await come(got, lambda message: message.HasField("snapshot"))
            await livekit.kill()
            await come(got, lambda message: message.event.HasField("freshness_changed"))
            await livekit.start()
            away = event_pb2.SNAPSHOT_REASON_WATCHER_AWAY
            await come(got, lambda message: message.snapshot.reason == away)
            back = await until(client, tone, lambda found: found.state == LIVE and found.track_sid != tone.track_sid)
            assert await come(
                got,
                lambda message: (
                    back.track_sid
                    in {message.event.track_published.sid, *(track.sid for track in message.snapshot.tracks)}
                ),
            )


async def test_publications_of_a_closed_room_end_and_stay_ended(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    from livekit import api

    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        tone = await publish(client, room_name, TONE, "host")
        async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as admin:
            await admin.room.delete_room(api.DeleteRoomRequest(room=room_name))
        over = await until(client, tone, lambda found: found.state == ENDED)
        assert over.end_cause == publication_pb2.PUBLICATION_END_CAUSE_ROOM_CLOSED


@pytest.mark.parametrize("removal", ["participant", "permission"])
async def test_who_is_removed_is_not_brought_back(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str, removal: str
) -> None:
    from livekit import api

    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        tone = await publish(client, room_name, TONE, "host")
        async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as admin:
            if removal == "participant":
                await admin.room.remove_participant(api.RoomParticipantIdentity(room=room_name, identity="host"))
                cause = publication_pb2.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED
            else:
                permission = api.ParticipantPermission(can_publish=False, can_publish_data=True)
                await admin.room.update_participant(
                    api.UpdateParticipantRequest(room=room_name, identity="host", permission=permission)
                )
                cause = publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED
        over = await until(client, tone, lambda found: found.state == ENDED)
        assert over.end_cause == cause


async def test_without_a_worker_the_publication_waits_and_comes_when_one_does(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(await start_livekit())
    worker = track.worker
    worker.suspend()
    async with track.client("admin", room_admin=True, room=room_name) as client:
        request = publication_pb2.PublishTrackRequest(room=room_name, create_room=True, spec=TONE)
        answer = await client.PublishTrack(request, timeout=4)
        assert answer.stage == publication_pb2.STAGE_REQUESTED
        assert answer.publication.state == publication_pb2.PUBLICATION_STATE_PENDING
        worker.kill()
        await until(client, answer.publication, lambda found: found.state == LIVE)
