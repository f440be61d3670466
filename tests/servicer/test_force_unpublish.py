"""UnpublishTrack by SID: any participant's track is taken out of the room, by the mildest way that works."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from livekit import api, rtc
from livekit.protocol import models

from tests.clients.apps import CAMERA, attached, public_key
from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, livekit_api
from tests.participants import camera, microphone, participant
from tests.publications import ENDED, TONE, pattern, publication, publish, until
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from tests.updates import update, video
from track.control.v1 import control_pb2
from track.v1 import publication_pb2 as pb
from track_server.store.sqlite import SqliteStore

DEADLINE_S = 45.0
PERMISSION = pb.UNPUBLISH_METHOD_PERMISSION
OBSERVED = pb.STAGE_OBSERVED
ROOM = pb.EVIDENCE_ROOM


async def unpublish(client: Client, room: str, sid: str, **options: Any) -> pb.UnpublishTrackResponse:
    request = pb.UnpublishTrackRequest(room=room, track_sid=sid, **options)
    answer: pb.UnpublishTrackResponse = await client.UnpublishTrack(request, timeout=DEADLINE_S)
    return answer


async def seen_by_livekit(livekit: LiveKitProcess, room: str, identity: str) -> models.ParticipantInfo:
    async with livekit_api(livekit) as client:
        return await client.room.get_participant(api.RoomParticipantIdentity(room=room, identity=identity))


async def listed(livekit: LiveKitProcess, room: str, identity: str, count: int) -> models.ParticipantInfo:
    """The participant, once LiveKit lists so many tracks of it: an SDK says a little earlier that it published."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            info = await seen_by_livekit(livekit, room, identity)
            if len(sids(info)) >= count:
                return info
            await asyncio.sleep(0.02)


def sids(info: models.ParticipantInfo) -> set[str]:
    return {track.sid for track in info.tracks} | {track.sid for track in info.data_tracks}


@contextlib.asynccontextmanager
async def publisher(livekit: LiveKitProcess, room: str, identity: str, **grants: Any) -> AsyncIterator[rtc.Room]:
    """A participant with a little of everything in its permission."""
    grants = {"can_update_own_metadata": True, "can_publish_data": True, **grants}
    async with participant(livekit, room, identity, can_publish=True, can_subscribe=True, **grants) as joined:
        yield joined


async def test_a_track_goes_by_its_source_and_the_rest_of_the_permission_stays(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with publisher(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        async with camera(alice) as first, camera(alice, "second") as second:
            before = await listed(livekit, room, "alice", 3)
            would = await unpublish(admin, room, first.sid, validate_only=True)
            assert (would.method, list(would.also_unpublished), would.stage) == (PERMISSION, [second.sid], 0)
            assert not would.HasField("permission_restored")
            assert await seen_by_livekit(livekit, room, "alice") == before

            done = await unpublish(admin, room, first.sid)
            assert (done.method, list(done.also_unpublished)) == (PERMISSION, [second.sid])
            assert (done.stage, done.evidence, done.permission_restored) == (OBSERVED, ROOM, False)
            assert not done.HasField("publication")
            after = await seen_by_livekit(livekit, room, "alice")
            assert sids(after) == {mic.sid}
            kept = [models.MICROPHONE, models.SCREEN_SHARE, models.SCREEN_SHARE_AUDIO]
            assert sorted(after.permission.can_publish_sources) == sorted(kept)
            after.permission.ClearField("can_publish_sources")
            assert after.permission == before.permission
            assert (await refusal(unpublish(admin, room, first.sid))).code is grpc.StatusCode.NOT_FOUND


async def test_the_permission_is_given_back_and_the_client_may_publish_again(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with publisher(livekit, room, "alice", can_publish_sources=["camera"]) as alice:
        before = await seen_by_livekit(livekit, room, "alice")
        assert before.permission.can_publish_sources
        async with camera(alice) as first:
            await listed(livekit, room, "alice", 1)
            # The only source that it may publish: without it there is nothing that it may.
            done = await unpublish(admin, room, first.sid, restore_permission=True)
        assert (done.method, done.stage, done.evidence) == (PERMISSION, OBSERVED, ROOM)
        assert done.permission_restored
        after = await seen_by_livekit(livekit, room, "alice")
        assert (sids(after), after.permission) == (set(), before.permission)
        async with camera(alice, "again") as again:
            assert sids(await listed(livekit, room, "alice", 1)) == {again.sid}


async def test_a_data_track_goes_with_the_permission_for_data(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with publisher(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        # Let go of, they are unpublished.
        held = [await alice.local_participant.publish_data_track(name=name) for name in ("one", "two")]
        info = await listed(livekit, room, "alice", 3)
        one, two = (track.info.sid for track in held)
        done = await unpublish(admin, room, one, restore_permission=True)
        assert (done.method, list(done.also_unpublished)) == (PERMISSION, [two])
        assert (done.stage, done.permission_restored) == (OBSERVED, True)
        after = await seen_by_livekit(livekit, room, "alice")
        assert (sids(after), after.permission) == ({mic.sid}, info.permission)


async def test_two_at_once_do_not_undo_each_other(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with publisher(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        async with camera(alice) as cam:
            await listed(livekit, room, "alice", 2)
            gone = await asyncio.gather(
                unpublish(admin, room, cam.sid, restore_permission=True), unpublish(admin, room, mic.sid)
            )
        assert [answer.permission_restored for answer in gone] == [True, False]
        after = await seen_by_livekit(livekit, room, "alice")
        assert sids(after) == set()
        assert models.MICROPHONE not in after.permission.can_publish_sources
        assert models.CAMERA in after.permission.can_publish_sources


async def test_a_publication_ends_with_moderation_and_does_not_come_back(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, TONE, "studio")
    would = await unpublish(admin, room, published.track_sid, validate_only=True)
    assert would.publication.publication_id == published.publication_id
    assert (would.method, would.stage) == (pb.UNPUBLISH_METHOD_HOSTED_SESSION, 0)
    done = await unpublish(admin, room, published.track_sid)
    assert (done.method, done.stage, done.evidence) == (pb.UNPUBLISH_METHOD_HOSTED_SESSION, OBSERVED, ROOM)
    assert (done.publication.state, done.publication.end_cause) == (ENDED, pb.PUBLICATION_END_CAUSE_MODERATION)
    assert not done.HasField("permission_restored")
    found = await publication(admin, room, published.publication_id)
    assert found.end_cause == pb.PUBLICATION_END_CAUSE_MODERATION


async def test_a_track_that_is_being_replaced_takes_its_publication_along(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, pattern(), "studio")
    replaced = asyncio.create_task(update(admin, published, video(max_bitrate_bps=200_000), "video.max_bitrate_bps"))
    await until(admin, published, lambda found: len(found.lineage) == 2)
    done = await unpublish(admin, room, published.track_sid)
    assert (done.publication.state, done.publication.end_cause) == (ENDED, pb.PUBLICATION_END_CAUSE_MODERATION)
    assert (done.stage, sids(await seen_by_livekit(livekit, room, "studio"))) == (OBSERVED, set())
    assert (await refusal(replaced)).reason == "PUBLICATION_ENDED"


async def test_by_publication_id_the_method_is_told_too(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, TONE, "studio")
    request = pb.UnpublishTrackRequest(room=room, publication_id=published.publication_id)
    done = await admin.UnpublishTrack(request, timeout=DEADLINE_S)
    assert done.method == pb.UNPUBLISH_METHOD_HOSTED_SESSION
    assert done.publication.end_cause == pb.PUBLICATION_END_CAUSE_CALLER


async def test_a_clients_publication_is_ended_through_its_companion_and_keeps_its_permission(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with publisher(livekit, room, "alice") as alice, attached(alice, await public_key(admin)):
        before = await seen_by_livekit(livekit, room, "alice")
        published = await publish(admin, room, CAMERA, "alice")
        done = await unpublish(admin, room, published.track_sid)
        assert (done.method, done.stage, done.evidence) == (pb.UNPUBLISH_METHOD_COMPANION, OBSERVED, ROOM)
        assert (done.publication.state, done.publication.end_cause) == (ENDED, pb.PUBLICATION_END_CAUSE_MODERATION)
        assert not done.HasField("permission_restored")
        after = await seen_by_livekit(livekit, room, "alice")
        assert (sids(after), after.permission) == (set(), before.permission)


async def test_a_companion_that_does_not_obey_is_not_trusted(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with publisher(livekit, room, "alice") as alice:

        async def lie(call: rtc.RpcInvocationData) -> str:
            signed = json_format.Parse(call.payload, control_pb2.SignedCommand())
            command = json_format.Parse(signed.command, control_pb2.Command())
            reply = control_pb2.Reply(command_id=command.command_id, status=control_pb2.COMMAND_STATUS_DONE)
            return json_format.MessageToJson(reply)

        alice.local_participant.register_rpc_method("track.control.v1", lie)
        mic = await microphone(alice)
        await listed(livekit, room, "alice", 1)
        would = await unpublish(admin, room, mic.sid, validate_only=True)
        assert would.method == pb.UNPUBLISH_METHOD_COMPANION
        done = await unpublish(admin, room, mic.sid)
        assert (done.method, done.stage, done.evidence) == (PERMISSION, OBSERVED, ROOM)
        assert not sids(await seen_by_livekit(livekit, room, "alice"))


async def test_only_an_admin_takes_out_what_others_publish(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with (
        publisher(livekit, room, "alice") as alice,
        track.client("bob", room_join=True, room=room) as bob,
        track.client("alice", room_join=True, room=room) as own,
    ):
        mic = await microphone(alice)
        await listed(livekit, room, "alice", 1)
        denied = await refusal(unpublish(bob, room, mic.sid))
        unknown = await refusal(unpublish(bob, room, "TR_none"))
        assert (denied.code, denied.message) == (unknown.code, unknown.message)
        assert denied.code is grpc.StatusCode.PERMISSION_DENIED
        assert mic.sid in sids(await seen_by_livekit(livekit, room, "alice"))
        missing = await refusal(unpublish(admin, room, "TR_none"))
        assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "TRACK_NOT_FOUND")
        # One's own is one's own to take away.
        assert (await unpublish(own, room, mic.sid, restore_permission=True)).permission_restored


async def test_one_of_id_and_sid_names_the_target(track: TrackProcess, room: str, admin: Client) -> None:
    for request in (
        pb.UnpublishTrackRequest(room=room),
        pb.UnpublishTrackRequest(room=room, publication_id="PUB_a", track_sid="TR_a"),
    ):
        assert (await refusal(admin.UnpublishTrack(request, timeout=DEADLINE_S))).code is (
            grpc.StatusCode.INVALID_ARGUMENT
        )


async def test_who_claims_to_be_hosted_is_taken_out_all_the_same(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, TONE, "studio")
    session = (await seen_by_livekit(livekit, room, "studio")).attributes["track.session_id"]
    async with publisher(livekit, room, "mallory") as mallory:
        await mallory.local_participant.set_attributes({"track.session_id": session})
        mic = await microphone(mallory)
        await listed(livekit, room, "mallory", 1)
        done = await unpublish(admin, room, mic.sid)
        assert (done.method, done.stage) == (PERMISSION, OBSERVED)
    assert (await publication(admin, room, published.publication_id)).state == pb.PUBLICATION_STATE_LIVE


@pytest.mark.deadline(150)
async def test_a_server_killed_in_between_gives_back_when_it_starts_again(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with existing_room(livekit, room_name), publisher(livekit, room_name, "alice") as alice:
        await microphone(alice)
        info = await listed(livekit, room_name, "alice", 1)
        await track.kill()
        # As if it had been killed between the two.
        left = models.ParticipantInfo(sid=info.sid, identity="alice", permission=info.permission, tracks=info.tracks)
        async with SqliteStore(track.directory / "track.sqlite3") as store:
            await store.put("withheld_permission", room_name, "alice", left.SerializeToString())
        taken = models.ParticipantPermission()
        taken.CopyFrom(info.permission)
        taken.can_publish_sources.extend([models.CAMERA, models.SCREEN_SHARE, models.SCREEN_SHARE_AUDIO])
        async with livekit_api(livekit) as client:
            request = api.UpdateParticipantRequest(room=room_name, identity="alice", permission=taken)
            await client.room.update_participant(request)
        assert (await seen_by_livekit(livekit, room_name, "alice")).permission != info.permission
        await track.start()
        async with asyncio.timeout(DEADLINE_S):
            while (await seen_by_livekit(livekit, room_name, "alice")).permission != info.permission:
                await asyncio.sleep(0.05)
