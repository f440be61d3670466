"""Media workers: which of them hosts a session, what is said where all are full, and how children are recycled."""

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator

import grpc
import psutil
from livekit import api

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room, livekit_api, participants, rooms
from tests.publications import DATA, LIVE, TONE, pattern, publication, publish, unpublish, until
from tests.receivers import receiver
from tests.recovery.test_kills import logged
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, media_frame_pb2
from track.v1 import publication_pb2 as pb
from track_server.agent import AGENT_NAME

DEADLINE_S = 40.0
PUSHED = pb.PublicationSpec(push=pb.PushInput(data=media_frame_pb2.DataFormat()))
ENDED = pb.PUBLICATION_STATE_ENDED


@contextlib.asynccontextmanager
async def worker_elsewhere(livekit: LiveKitProcess, track: TrackProcess, places: int) -> AsyncIterator[None]:
    """`track-server worker` as it runs on another machine: LiveKit alone finds it."""
    environment = {
        **os.environ,
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
        "TRACK_WORKER_MAX_SESSIONS": str(places),
    }
    path = track.directory / "worker.log"
    with path.open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a few ms
            [sys.executable, "-m", "track_server", "worker"], env=environment, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(DEADLINE_S):
            while "livekit_worker_registered" not in path.read_text():
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, DEADLINE_S)


def wanted(room: str, identity: str) -> pb.PublishTrackRequest:
    """The same request whenever it is made."""
    return pb.PublishTrackRequest(
        room=room, spec=DATA, participant_identity=identity, request_id=str(uuid.uuid5(uuid.NAMESPACE_OID, identity))
    )


async def refused(client: Client, room: str, identity: str) -> None:
    """Publishing is refused, because the workers are full: nothing of it is left."""
    before = await listed(client, room)
    found = await refusal(client.PublishTrack(wanted(room, identity), timeout=45))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert found.quota == ("worker_max_sessions", 1, "media workers")
    assert found.retry_s
    assert await listed(client, room) == before


async def admitted(client: Client, room: str, identity: str) -> pb.Publication:
    """Publishes it. A session that is leaving the room has its place until then, so it is asked for again."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                answer = await client.PublishTrack(wanted(room, identity), timeout=45)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.1)
            else:
                assert answer.publication.state == LIVE
                found: pb.Publication = answer.publication
                return found


async def listed(client: Client, room: str) -> set[str]:
    """Ids of the publications that the room has or had."""
    answer = await client.ListPublications(pb.ListPublicationsRequest(room=room))
    return {found.publication_id for found in answer.publications}


async def about(livekit: LiveKitProcess, room: str, identity: str) -> api.ParticipantInfo:
    """What LiveKit knows of the participant."""
    async with livekit_api(livekit) as admin:
        return await admin.room.get_participant(api.RoomParticipantIdentity(room=room, identity=identity))


async def dispatches(livekit: LiveKitProcess, room: str) -> int:
    """How many to media workers LiveKit has for the room."""
    async with livekit_api(livekit) as admin:
        return sum(found.agent_name == AGENT_NAME for found in await admin.agent_dispatch.list_dispatch(room))


async def test_own_workers_first_then_others_and_then_the_caller_is_told_that_all_are_full(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_WORKER_MAX_SESSIONS": "1"})
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        await logged(track, "media_worker_ready")
        own = await publish(client, room_name, TONE, "own")
        assert await dispatches(livekit, room_name) == 0
        await refused(client, room_name, "third")
        # A place is a participant, not a track.
        await publish(client, room_name, DATA, "own")
        async with worker_elsewhere(livekit, track, places=1):
            elsewhere = await publish(client, room_name, TONE, "elsewhere")
            assert await dispatches(livekit, room_name) == 1
            # Both are the same to LiveKit.
            mine, theirs = [await about(livekit, room_name, identity) for identity in ("own", "elsewhere")]
            assert mine.kind == theirs.kind == api.ParticipantInfo.AGENT
            assert mine.permission == theirs.permission
            assert mine.attributes.keys() == theirs.attributes.keys()
            await refused(client, room_name, "third")
            await unpublish(client, elsewhere)
            await admitted(client, room_name, "third")
        # The one elsewhere is gone in order, and there is no place for its session here.
        assert (await until(client, own, lambda found: found.state == LIVE)).track_sid == own.track_sid


async def test_frames_are_pushed_to_own_workers_alone(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        track.client("admin", room_admin=True, room=room_name) as client,
        existing_room(livekit, room_name),
        worker_elsewhere(livekit, track, places=5),
    ):
        await publish(client, room_name, DATA, "elsewhere")
        request = pb.PublishTrackRequest(room=room_name, spec=PUSHED, participant_identity="elsewhere")
        found = await refusal(client.PublishTrack(request, timeout=45))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_SUPPORTED")
        assert found.fields == ("participant_identity",)
        before = await dispatches(livekit, room_name)
        request = pb.PublishTrackRequest(room=room_name, spec=PUSHED, participant_identity="here")
        answer = await client.PublishTrack(request, timeout=8)
        assert answer.stage == pb.STAGE_REQUESTED
        waiting = await until(client, answer.publication, lambda found: found.HasField("problem"))
        assert waiting.state == pb.PUBLICATION_STATE_PENDING
        assert waiting.problem.reason == error_pb2.ERROR_REASON_WORKER_UNAVAILABLE
        assert await dispatches(livekit, room_name) == before


async def test_what_was_live_waits_for_a_place_and_comes_back(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    settings = {"TRACK_WORKER_MAX_SESSIONS": "2"}
    track = await start_track(livekit, settings)
    async with existing_room(livekit, room_name):
        async with track.client("admin", room_admin=True, room=room_name) as client:
            both = [await publish(client, room_name, DATA, identity) for identity in ("one", "two")]
        # With its server the worker ends, and its sessions leave in order.
        worker = track.worker
        processes = [worker, *worker.children()]
        assert await track.stop() == 0
        _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 30)
        assert not alive
        # LiveKit may hear a goodbye a moment after its process has ended.
        async with asyncio.timeout(DEADLINE_S):
            while await participants(livekit, room_name):
                await asyncio.sleep(0.1)
        settings["TRACK_WORKER_MAX_SESSIONS"] = "1"
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client, asyncio.timeout(DEADLINE_S):
            while True:
                now = [await publication(client, room_name, each.publication_id) for each in both]
                hosted = [each for each in now if each.state == LIVE]
                waiting = [each for each in now if each.problem.reason == error_pb2.ERROR_REASON_LIMIT_EXCEEDED]
                if hosted and waiting:
                    break
                await asyncio.sleep(0.05)
            assert waiting[0].state != ENDED
            await refused(client, room_name, "third")
            await unpublish(client, hosted[0])
            back = await until(client, waiting[0], lambda found: found.state == LIVE)
            assert not back.HasField("problem")


async def test_of_two_own_workers_the_less_loaded_one_is_taken_and_one_that_hangs_is_passed_over(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "2"})
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        await logged(track, "media_worker_ready", 2)
        for number in range(4):
            await publish(client, room_name, DATA, f"host-{number}")
        taken = [entry["worker_pid"] for entry in track.logged("session_placed")]
        assert sorted(taken.count(pid) for pid in set(taken)) == [2, 2]
        hanging = psutil.Process(taken[0])
        hanging.suspend()
        try:
            for number in range(4, 6):
                await publish(client, room_name, DATA, f"host-{number}")
        finally:
            hanging.resume()
        assert {entry["worker_pid"] for entry in track.logged("session_placed")[4:]} == {*taken} - {hanging.pid}


async def test_recycling_of_children_touches_nothing_that_is_live(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_WORKER_SESSIONS_BEFORE_RECYCLING": "2"})
    async with (
        track.client("admin", room_admin=True, room=room_name) as client,
        existing_room(livekit, room_name),
        receiver(livekit, room_name, "viewer") as viewer,
    ):
        first = await publish(client, room_name, pattern(), "host-0")
        (old,) = [entry["pid"] for entry in track.logged("media_child_ready")][:1]
        assert old in children(track)
        for number in range(1, 5):
            await viewer.receives(first.track_sid)
            passing = await publish(client, room_name, DATA, f"host-{number}")
            await unpublish(client, passing)
        # Two children have come and gone since the first was to take no more.
        async with asyncio.timeout(DEADLINE_S):
            while len(track.logged("media_child_ready")) < 3:
                await asyncio.sleep(0.05)
        assert old in children(track)
        still = await until(client, first, lambda found: found.state == LIVE)
        assert [entry.track_sid for entry in still.lineage] == [first.track_sid]
        await viewer.receives(first.track_sid, 15)
        await unpublish(client, first)
        async with asyncio.timeout(DEADLINE_S):
            while old in children(track):
                await asyncio.sleep(0.05)
        assert not track.logged("media_child_crashed")


def children(track: TrackProcess) -> set[int]:
    """Process ids of the processes that load the SDK."""
    return {child.pid for child in track.worker.children() if child.status() != psutil.STATUS_ZOMBIE}


async def test_a_room_that_is_deleted_before_the_session_joins_is_not_made_again(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    await logged(track, "media_worker_ready")
    (child,) = [psutil.Process(pid) for pid in children(track)]
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        child.suspend()
        request = pb.PublishTrackRequest(room=room_name, spec=DATA, participant_identity="host")
        publishing = asyncio.ensure_future(client.PublishTrack(request, timeout=45))
        await logged(track, "session_placed")
        await delete_room(livekit, room_name)
        answer = await publishing
        assert answer.publication.end_cause == pb.PUBLICATION_END_CAUSE_ROOM_CLOSED
        child.resume()
        # The same child has done what it was told before, once it hosts another session.
        other = f"{room_name}-other"
        async with existing_room(livekit, other), track.client("admin", room_admin=True, room=other) as admin:
            await publish(admin, other, DATA, "host")
            assert await rooms(livekit, room_name) == []
        assert await rooms(livekit, room_name) == []
